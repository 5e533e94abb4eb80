// The Python that `cached-bench import` runs: one script makes the tree, the other one imports it.
#pragma once

namespace cached::bench {

// python3 -c SCRIPT TREE: copies standard library and packages into TREE, compiles them, and writes
// TREE/modules.list: the modules that can be imported one after the other in one interpreter. What cannot is
// left out: it lacks another package, ends the interpreter or waits for something. Prints the number of
// modules.
inline constexpr const char* kMakeTreeScript = R"(
import compileall, os, pathlib, shutil, subprocess, sys, sysconfig

IMPORT = '''
import signal, sys
def late(*_):
    raise TimeoutError
signal.signal(signal.SIGALRM, late)
output = open(sys.argv[1], "a", buffering=1)
for name in sys.argv[2].split(","):
    output.write("try " + name + "\\n")
    signal.alarm(10)
    try:
        __import__(name)
    except BaseException:
        output.write("bad " + name + "\\n")
    signal.alarm(0)
output.write("end\\n")
'''
UNWANTED = {"test", "tests", "testing", "idlelib", "turtledemo", "lib2to3", "antigravity", "this", "__main__",
            "conftest", "setup", "__pycache__", "turtle", "dist-packages", "site-packages"}

tree = pathlib.Path(sys.argv[1])
paths = [tree / "stdlib", tree / "stdlib/lib-dynload", tree / "packages"]
keep_out = shutil.ignore_patterns("__pycache__", "*.pyc", "*.a", "config-3*", *sorted(UNWANTED - {"__main__"}))
shutil.copytree(sysconfig.get_path("stdlib"), tree / "stdlib", ignore=keep_out, ignore_dangling_symlinks=True)
packages = pathlib.Path("/usr/lib/python3/dist-packages")
if not packages.is_dir():
    packages = pathlib.Path(sysconfig.get_path("purelib"))
shutil.copytree(packages, tree / "packages", ignore=keep_out, ignore_dangling_symlinks=True)
compileall.compile_dir(tree, quiet=2)

names = []
for top in (tree / "stdlib", tree / "packages"):
    for file in sorted(top.rglob("*.py")):
        parts = file.relative_to(top).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if parts and all(part.isidentifier() for part in parts) and not UNWANTED.intersection(parts):
            names.append(".".join(parts))

environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
environment |= {"PYTHONPATH": ":".join(map(str, paths)), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONNOUSERSITE": "1"}
record = tree / "attempts"

def attempt(names):
    "What of the names could be imported, and whether the interpreter lived to the end."
    record.write_text("")
    subprocess.run([sys.executable, "-S", "-W", "ignore", "-c", IMPORT, str(record), ",".join(names)], env=environment,
                   cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    lines = record.read_text().split("\n")
    bad = {line[4:] for line in lines if line.startswith("bad ")}
    tried = [line[4:] for line in lines if line.startswith("try ")]
    if "end" not in lines:
        bad.add(tried[-1])  # it took the interpreter along
    return [name for name in names if name not in bad]

# Again without what failed, until all is well: a module that fails may have helped another one before.
while (good := attempt(names)) != names:
    names = good
record.unlink()
(tree / "modules.list").write_text("\n".join(names) + "\n")
print(len(names))
)";

// python3 -S -W ignore -c SCRIPT TREE, with the tree in PYTHONPATH: imports all of TREE/modules.list and
// prints how many modules of this interpreter lie in the tree. Ends without finalizers, which are no part of
// an import.
inline constexpr const char* kImportScript = R"(
import os, sys
tree = sys.argv[1]
output = os.dup(1)
os.dup2(2, 1)
for name in open(tree + "/modules.list").read().split():
    __import__(name)
inside = sum(1 for module in list(sys.modules.values())
             if str(getattr(module, "__file__", None)).startswith(tree + "/"))
os.write(output, str(inside).encode())
os._exit(0)
)";

}  // namespace cached::bench
