"""What the commands share: choices that they offer and tables that they print."""
