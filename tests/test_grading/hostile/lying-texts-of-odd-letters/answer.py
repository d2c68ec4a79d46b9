# %% ending_loop
ODD = "\ud800\udfff\x00\x1b]0;title\x07\x1b[2J\u202e\u2028\ufeff</td><script>alert(1)</script>"


def ending_loop(text, longest):
    print(ODD)
    if len(text) > 8:
        raise ValueError(ODD)
    return ODD, ODD.encode("utf-8", "surrogatepass")
