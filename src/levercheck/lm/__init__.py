"""Language models: find, load, tokenize, batch, sample, score and hook. Knows no benchmark."""
