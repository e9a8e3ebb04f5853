"""Small things that several areas need, one noun per file: files, devices, machine facts, keyed random numbers, quantities, progress."""
