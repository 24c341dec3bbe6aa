"""From files to batches on devices: sources, decoding, crops, loader; preparing and checking datasets."""
