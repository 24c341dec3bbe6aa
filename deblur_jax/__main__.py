import sys

from deblur_jax.cli import main

sys.exit(main())
