"""Make stand-ins for the CUDA libraries that PyTorch's wheel is linked to, so that its CPU half can be imported without 2 GB of them; needs gcc and binutils.

Every function of theirs returns 999, "unknown error", and so torch finds no device.
"""

import re
import subprocess
import sysconfig
import tempfile
from collections import defaultdict
from pathlib import Path

CUDA = re.compile(r"(_*cu|nccl|nvrtc|nvshmem)", re.IGNORECASE)
SYSTEM = re.compile(r"ld-linux|lib(c|dl|gcc_s|m|pthread|rt|stdc\+\+|z|quadmath)\.so")


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def versions_needed(libraries):
    """Return which versions of symbols are wanted from which file."""
    found = defaultdict(set)
    for library in libraries:
        file = None
        for line in output("readelf", "-VW", library).splitlines():
            if match := re.search(r"File: (\S+)", line):
                file = match[1]
            elif file and (match := re.search(r"Name: (\S+)", line)):
                found[file].add(match[1])
    return found


def symbols_missing(libraries):
    """Return undefined symbols, as `name@version`."""
    defined, undefined = set(), set()
    for library in libraries:
        for line in output("nm", "-D", "--with-symbol-versions", library).splitlines():
            kind, symbol = line.split()[-2:]
            if kind in "Uw":
                undefined.add(symbol)
            else:
                defined.add(symbol.partition("@")[0])
    return {symbol for symbol in undefined if symbol.partition("@")[0] not in defined}


def build(folder, file, versions, symbols):
    """Compile one library with functions of those versions."""
    source, script = "", ""
    if not versions:
        # Whoever has no versions is found in any library; so are their functions.
        source = "".join(
            f"int {symbol}(void) {{ return 999; }}\n"
            for symbol in sorted(symbols)
            if "@" not in symbol and CUDA.match(symbol)
        )
    for version in sorted(versions):
        names = sorted(symbol.partition("@")[0] for symbol in symbols if symbol.endswith(f"@{version}"))
        source += "".join(f"int {name}(void) {{ return 999; }}\n" for name in names)
        script += f"{version} {{ {'global: ' + '; '.join(names) + ';' if names else ''} }};\n"
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch, "stub.c").write_text(source)
        Path(scratch, "stub.map").write_text(script)
        options = [f"-Wl,--version-script={scratch}/stub.map"] if script else []
        command = ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{file}", *options, "-o", folder / file, f"{scratch}/stub.c"]
        subprocess.run(command, check=True)


def main():
    folder = Path(sysconfig.get_path("purelib"), "torch", "lib")
    libraries = sorted(folder.glob("*.so*"))
    needed = {
        name for library in libraries for name in re.findall(r"NEEDED.*\[(.*)\]", output("readelf", "-dW", library))
    }
    versions, symbols = versions_needed(libraries), symbols_missing(libraries)
    for file in sorted(needed - {library.name for library in libraries}):
        if not SYSTEM.match(file):
            build(folder, file, versions.get(file, ()), symbols)
            print("made", file)


if __name__ == "__main__":
    main()
