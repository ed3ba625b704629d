"""What clusters of texts are about: their most telling words and nearest rows."""
