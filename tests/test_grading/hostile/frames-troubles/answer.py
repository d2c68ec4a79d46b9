# %% report first
from utils.grading import wire

wire.send(4, b"R" + wire.pack({"<script>alert(1)</script>": [["=1+1", 7, None]], "long": "x" * 3_000_000}))

# %% resample
