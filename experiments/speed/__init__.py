"""What `fast_mode` is made of: rows, measures, sentences and charts about the price of speed."""
