"""What measurements found: records, their tables and their pictures."""
