"""Networks and autoencoders on images of digits."""
