"""The list of cases: what is launched for a published figure, in each configuration that its author chose from."""

CASES = {}


def case(name, arch, *arguments, file=None):
    """Registers a case that is called as `f(device, *arguments)` and returns an iterator over the names of configurations,
    each after its launches."""

    def register(function):
        if name in CASES:
            raise ValueError(f"two cases {name}")
        CASES[name] = (arch, function, arguments, file)
        return function

    return register
