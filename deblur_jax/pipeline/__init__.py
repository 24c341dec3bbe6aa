"""From files to batches on devices: sources, crops, loader; recorded camera motion; preparing and checking datasets."""
