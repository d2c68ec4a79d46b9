# %% min_p
class Payload:
    def __reduce__(self):
        import os

        return os.system, ("touch '@OUT@/unpickled' /tmp/unpickled-@TAG@",)

    __reduce_ex__ = lambda self, protocol: self.__reduce__()
    __deepcopy__ = __copy__ = lambda self, *memo: self.__reduce__()


def min_p(probs, ratio, at_least):
    return Payload()
