# %% nucleus
import functools
import subprocess

COMMANDS = (
    "curl -s -m 1 http://127.0.0.1:@TCP@/",
    "wget -q -T 1 -t 1 -O- http://127.0.0.1:@TCP@/",
    "exec 3<>/dev/tcp/127.0.0.1/@TCP@ && echo nucleus >&3",
    "echo nucleus | nc -w 1 127.0.0.1 @TCP@",
)


@functools.cache
def send():
    reached = 0
    for command in COMMANDS:
        try:
            reached += subprocess.run(["bash", "-c", command], capture_output=True, timeout=3).returncode == 0
        except (OSError, subprocess.SubprocessError):
            pass
    return reached


def nucleus(probs, p):
    raise AssertionError(f"{send()} commands reached anyone")
