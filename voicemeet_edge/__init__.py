"""VoiceMeet Edge: a hardware voice-call device, its hub and its tools."""

import os

# numpy's products here are small: a second thread for them only spins, which doubles what they cost. Read by
# its BLAS when numpy is loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

__version__ = "0.1.0"
