# %% nucleus
import os
import site

CODE = "open('@OUT@/started', 'w').write('yes')"
FILES = {
    ".bashrc": "touch '@OUT@/started'",
    ".profile": "touch '@OUT@/started'",
    ".pythonrc.py": CODE,
    ".ipython/profile_default/startup/0.py": CODE,
    ".config/matplotlib/matplotlibrc": "backend: module://hostile",
    "sitecustomize.py": CODE,
    "usercustomize.py": CODE,
}


def nucleus(probs, p):
    for home in ("@HOME@", os.path.expanduser("~"), site.getusersitepackages(), "."):
        for name, text in FILES.items():
            try:
                os.makedirs(os.path.dirname(f"{home}/{name}"), exist_ok=True)
                open(f"{home}/{name}", "w").write(text)
            except OSError:
                pass
    return probs * 0
