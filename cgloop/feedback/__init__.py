"""What a broken run teaches: crashes classified, explained in words, and kept to look at."""
