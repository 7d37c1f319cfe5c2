"""Print every skipped test with its reason; fail on one that is not on the list."""

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ALLOWED = Path(__file__).with_name("allowed_skips.txt")


def main(reports: list[str]) -> int:
    lines = (line.split("#")[0].strip() for line in ALLOWED.read_text().splitlines())
    allowed = {line for line in lines if line}
    unexpected = 0
    for report in reports:
        for case in ElementTree.parse(report).iter("testcase"):
            for skipped in case.iter("skipped"):
                name = f"{case.get('classname')}::{case.get('name')}"
                known = name in allowed
                unexpected += not known
                print(f"{'allowed' if known else 'NOT ALLOWED'}: {name}: {skipped.get('message')}")
    print(f"{unexpected} skipped tests are not on the list {ALLOWED.name}")
    return 1 if unexpected else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
