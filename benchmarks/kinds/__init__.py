"""Models of the kinds that people bring, on made data, against a long NUTS run of the same program."""
