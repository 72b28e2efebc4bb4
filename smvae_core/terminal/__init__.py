"""What the commands share on a terminal: choices, tables and the progress bar."""
