"""Text of three languages as the phones, tones and languages that Bert-VITS2 was trained on."""
