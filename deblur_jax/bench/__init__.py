"""Speed, measured side by side: what is compared runs interleaved in one process, and medians are given."""
