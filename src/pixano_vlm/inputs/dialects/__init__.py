"""The forms that other tools give a record, each as a test and a conversion. Knows decoded lines and no file."""
