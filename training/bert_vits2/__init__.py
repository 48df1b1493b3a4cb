"""Bert-VITS2: filelists, preprocessing, data, losses and the adversarial training of its networks."""
