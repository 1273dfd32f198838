"""What a network computes of texts, as numbers that quantizing needs."""
