"""What a recipe would cost on given devices: memory, time and money, before anything runs."""
