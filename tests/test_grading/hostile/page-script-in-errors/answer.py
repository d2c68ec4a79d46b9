# %% nucleus
def nucleus(probs, p):
    print("=HYPERLINK(\"http://evil.example\",\"click\")\n<script>alert(1)</script>\x1b]8;;http://evil.example\x07")
    raise type("<img src=x onerror=alert(2)>", (Exception,), {})("=cmd|' /C calc'!A0 <script>alert(3)</script>")

# %% typical
def typical(probs, width): <script>alert(4)</script> <svg/onload=alert(5)>
