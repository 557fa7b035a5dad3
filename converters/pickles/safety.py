"""The verdict on a pickle: what would happen if an ordinary loader unpickled the file.

safe        only tensors, plain containers and data classes known to do nothing on loading
suspicious  unknown classes or functions, streams that break off, unexpected bytes
dangerous   names that run code, open resources or reach into the interpreter

Nothing is left to a list of known attacks: what belongs to Python itself, to torch, to numpy, to
this program or to tools that run commands is dangerous unless it is on the list of harmless names.
Sources for the harmless names: reference behaviour of pytorch/pytorch `torch/_weights_only_unpickler.py`,
AUTOMATIC1111/stable-diffusion-webui `modules/safe.py`, and training checkpoints in the wild.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from converters.pickles.machine import Unpickled
from converters.pickles.values import Global


class Verdict(StrEnum):
    """How safe it would be to unpickle the file."""

    SAFE = "safe"
    SUSPICIOUS = "suspicious"
    DANGEROUS = "dangerous"


@dataclass(frozen=True, slots=True)
class SafetyReport:
    """The verdict, every name the file mentions (dotted), and the reasons in words."""

    verdict: Verdict
    imports: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()


SAFE_NO_CODE = SafetyReport(Verdict.SAFE)
"""For formats that cannot hold code."""

Finding = tuple[Verdict, str]

_HARMLESS = frozenset(
    """
    collections.OrderedDict collections.Counter collections.defaultdict collections.deque
    builtins.dict builtins.list builtins.tuple builtins.set builtins.frozenset builtins.bytes
    builtins.bytearray builtins.complex builtins.int builtins.float builtins.bool builtins.str
    builtins.long builtins.unicode builtins.slice builtins.range builtins.xrange builtins.object
    builtins.Ellipsis builtins.NotImplemented builtins.NoneType
    _codecs.encode copyreg._reconstructor copyreg.__newobj__
    datetime.date datetime.time datetime.datetime datetime.timedelta datetime.timezone
    argparse.Namespace types.SimpleNamespace decimal.Decimal fractions.Fraction uuid.UUID
    pathlib.Path pathlib.PosixPath pathlib.WindowsPath pathlib.PurePath pathlib.PurePosixPath
    pathlib.PureWindowsPath pathlib._local.Path pathlib._local.PosixPath pathlib._local.WindowsPath
    pathlib._local.PurePosixPath pathlib._local.PureWindowsPath
    typing.Any typing.Union typing.Optional typing.List typing.Dict typing.Tuple
    torch.Size torch.device torch.Tensor torch.nn.Parameter torch.nn.parameter.Parameter
    torch.nn.parameter.Buffer torch.serialization._get_layout
    torch.storage.UntypedStorage torch.storage.TypedStorage torch.storage._TypedStorage
    torch.storage._UntypedStorage
    torch._utils._rebuild_tensor torch._utils._rebuild_tensor_v2 torch._utils._rebuild_tensor_v3
    torch._utils._rebuild_parameter torch._utils._rebuild_parameter_with_state
    torch._utils._rebuild_sparse_tensor torch._utils._rebuild_qtensor
    torch._utils._rebuild_meta_tensor_no_storage torch._utils._rebuild_nested_tensor
    torch._utils._rebuild_device_tensor_from_numpy
    torch._utils._rebuild_device_tensor_from_cpu_tensor torch._utils._rebuild_wrapper_subclass
    torch._tensor._rebuild_from_type_v2 torch._tensor._rebuild_from_type
    torch.jit._pickle.build_intlist torch.jit._pickle.build_tensorlist
    torch.jit._pickle.build_doublelist torch.jit._pickle.build_boollist
    torch.jit._pickle.build_tensor_from_id torch.jit._pickle.restore_type_tag
    numpy.dtype numpy.ndarray numpy.bool numpy.bool_ numpy.float16 numpy.float32 numpy.float64
    numpy.int8 numpy.int16 numpy.int32 numpy.int64 numpy.uint8 numpy.uint16 numpy.uint32
    numpy.uint64 numpy.complex64 numpy.complex128 numpy.str_ numpy.bytes_ numpy.datetime64
    numpy.core.multiarray.scalar numpy.core.multiarray._reconstruct numpy.core.numeric._frombuffer
    numpy._core.multiarray.scalar numpy._core.multiarray._reconstruct
    numpy._core.numeric._frombuffer numpy.random._pickle.__randomstate_ctor
    numpy.random._pickle.__generator_ctor numpy.random._pickle.__bit_generator_ctor
    omegaconf.dictconfig.DictConfig omegaconf.listconfig.ListConfig omegaconf.base.Metadata
    omegaconf.base.ContainerMetadata omegaconf.base.Node omegaconf.nodes.AnyNode
    omegaconf.nodes.StringNode omegaconf.nodes.IntegerNode omegaconf.nodes.FloatNode
    omegaconf.nodes.BooleanNode
    """.split()
)

_TORCH_STORAGES = frozenset(
    f"{kind}Storage"
    for kind in """Double Float Half BFloat16 Long Int Short Char Byte Bool ComplexDouble
    ComplexFloat QInt8 QUInt8 QInt32 QUInt4x2 QUInt2x4 Untyped Typed""".split()
)
_TORCH_TYPES = frozenset(
    """float32 float float64 double float16 half bfloat16 int8 uint8 int16 short int32 int int64
    long uint16 uint32 uint64 bool complex32 complex64 complex128 qint8 quint8 qint32 float8_e4m3fn
    float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz float8_e8m0fnu float4_e2m1fn_x2 strided
    sparse_coo per_tensor_affine per_channel_affine""".split()
)
_HARMLESS_CLASSES_OF = (
    "torch.nn.modules.",
    "torch.optim.",
    "pytorch_lightning.callbacks.",
    "lightning.pytorch.callbacks.",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "lightning_fabric.utilities.",
    "lightning.fabric.utilities.",
)
"""Data classes that torch and Lightning leave in training checkpoints; functions are not meant."""

_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg", "exceptions": "builtins"}
_PYTHON_2_ONLY = frozenset(
    """commands cPickle cStringIO popen2 os2 urllib2 httplib UserDict UserList imp execfile dl new
    StringIO thread dummy_thread SocketServer SimpleHTTPServer BaseHTTPServer CGIHTTPServer xmlrpclib
    ConfigParser anydbm dbhash whichdb Queue Tkinter tkFileDialog compiler rexec ihooks Bastion
    asyncore asynchat smtpd pipes cgi crypt telnetlib nntplib distutils""".split()
)
_OURS = frozenset({"converters", "registry", "assetmgr", "tui"})
_NUMERIC = frozenset({"torch", "numpy", "scipy", "torchvision", "torchaudio"})
_TOOLS = frozenset(
    """pip setuptools pkg_resources _distutils_hack wheel IPython ipykernel jupyter requests urllib3
    httpx httpx2 aiohttp paramiko fabric invoke psutil pexpect ptyprocess sh plumbum cffi pycparser
    joblib dill cloudpickle jsonpickle shelve numba llvmlite pandas tensorflow keras jax sympy
    huggingface_hub fsspec s3fs gcsfs smart_open boto3 botocore docker win32api win32com pywintypes
    win32process wmi gevent eventlet twisted tornado flask django uvicorn gradio streamlit celery
    execnet rpyc pyro4 Pyro4 Crypto pyautogui pynput mitmproxy scapy yaml ruamel mako jinja2 lxml
    pytest _pytest nose hypothesis sqlalchemy fickling torchaudio_io multiprocess billiard virtualenv
    pydoc_data idlelib lib2to3 test turtledemo cython pyximport Cython nltk bdb_ ray dask""".split()
)
_RUNS_COMMANDS = frozenset(
    """os posix nt subprocess commands popen2 pty _posixsubprocess multiprocessing pexpect sh
    plumbum paramiko fabric invoke asyncio _winapi""".split()
)
_RUNS_CODE = frozenset(
    """runpy code codeop pdb bdb timeit profile cProfile trace doctest unittest importlib imp pkgutil
    zipimport site sysconfig types marshal pickle cPickle _pickle dill cloudpickle joblib shelve
    functools operator ctypes _ctypes cffi gc inspect sys threading _thread thread concurrent
    compileall py_compile pydoc ensurepip venv pip setuptools IPython ast dis atexit signal sched
    idlelib lib2to3 test distutils""".split()
)
_OPENS = frozenset(
    """socket _socket ssl _ssl urllib urllib2 http httplib ftplib smtplib poplib imaplib telnetlib
    nntplib xmlrpc webbrowser requests urllib3 httpx aiohttp shutil io _io pathlib tempfile glob
    fileinput zipfile tarfile gzip bz2 lzma sqlite3 dbm mmap select selectors socketserver wsgiref
    logging linecache mailbox""".split()
)
_REVEALING = frozenset(
    """system popen popen2 popen3 popen4 exec eval execfile compile __import__ import_module open
    getattr setattr delattr globals locals vars breakpoint exec_command run_command check_output
    check_call call Popen spawn fork execv execve execl execvp getoutput getstatusoutput
    __globals__ __builtins__ __subclasses__ __class__ __dict__ __reduce__ __getattribute__ __code__
    loads load_module exec_module run_path run_module interact rmtree remove unlink""".split()
)
"""Last names that tell what is meant wherever they are taken from."""


def judge(streams: Iterable[Unpickled], findings: Iterable[Finding] = ()) -> SafetyReport:
    """The report on a file from the streams in it and what its container showed besides."""
    names: dict[str, None] = {}
    reasons: dict[str, Verdict] = {}
    for stream in streams:
        for name in (*stream.names, *stream.buried):
            names[name.dotted] = None
        for verdict, reason in _findings(stream):
            reasons[reason] = verdict
    reasons.update((reason, verdict) for verdict, reason in findings)
    return SafetyReport(_worst(reasons.values()), tuple(names), _in_order(reasons))


def judge_name(name: Global, *, called: bool = True) -> Finding | None:
    """What a name in a pickle means: None for harmless ones."""
    module = _modern(name.module)
    dotted = f"{module}.{name.name}"
    if _is_harmless(module, name.name, dotted):
        return None
    reason = _danger(module, name.name)
    if reason is not None:
        return Verdict.DANGEROUS, f"{name.dotted} {reason}"
    use = "is called" if called and not name.name.rpartition(".")[2][:1].isupper() else "is used"
    return Verdict.SUSPICIOUS, f"{name.dotted} {use}; what it does is unknown, it was left out"


def _findings(stream: Unpickled) -> Iterable[Finding]:
    for name in stream.names:
        finding = judge_name(name, called=name in stream.called)
        if finding is not None:
            yield finding
    for name in stream.buried:
        finding = judge_name(name)
        if finding is not None:
            yield finding[0], f"a value holds another pickle: {finding[1]}"
    for remark in stream.remarks:
        yield Verdict.DANGEROUS, f"the pickle {remark}"
    if stream.stopped is not None:
        yield Verdict.SUSPICIOUS, f"the pickle cannot be followed: {stream.stopped.reason}"


def _modern(module: str) -> str:
    return _PYTHON_2.get(module, module)


def _is_harmless(module: str, name: str, dotted: str) -> bool:
    if dotted in _HARMLESS:
        return True
    if module in {"torch", "torch.storage", "torch.cuda"} and name in _TORCH_STORAGES:
        return True
    if module == "torch" and name in _TORCH_TYPES:
        return True
    if module == "builtins" and name.endswith(("Error", "Exception", "Warning")):
        return True
    return _is_class_name(name) and f"{module}.{name}".startswith(_HARMLESS_CLASSES_OF)


def _danger(module: str, name: str) -> str | None:
    """Why a name that is not on the harmless list is dangerous, or None."""
    top = module.partition(".")[0]
    if top in _OURS:
        return "reaches into this program"
    if top in _RUNS_COMMANDS:
        return "would run commands or reach the operating system"
    if top in _RUNS_CODE or (top == "builtins" and name in _REVEALING):
        return "would run code of the file's choice"
    if top in _OPENS:
        return "would open files or connections"
    if top in sys.stdlib_module_names or top in _PYTHON_2_ONLY:
        return "calls into Python itself, which no tensor file needs"
    if top in _TOOLS:
        return "calls a tool that can run code or open connections"
    return _danger_by_name(module, name)


def _danger_by_name(module: str, name: str) -> str | None:
    top, parts = module.partition(".")[0], name.split(".")
    if any(part in _REVEALING or part in _RUNS_COMMANDS or part in _RUNS_CODE for part in parts):
        return "would run code of the file's choice"
    if any(part in _OPENS for part in parts):
        return "would open files or connections"
    if f"{module}.{name}" == "torch.storage._load_from_bytes":
        return None  # unpickles its argument, into which the machine has looked
    if top in _NUMERIC and not _is_class_name(name):
        return f"calls a function of {top} that no tensor file needs"
    if len(parts) > 1 and not all(_is_class_name(part) for part in parts):
        return "reaches through one object into another"
    return None


def _is_class_name(name: str) -> bool:
    return name.lstrip("_")[:1].isupper() and "." not in name


def _worst(verdicts: Iterable[Verdict]) -> Verdict:
    return max(verdicts, key=list(Verdict).index, default=Verdict.SAFE)


def _in_order(reasons: dict[str, Verdict]) -> tuple[str, ...]:
    """The gravest reasons first."""
    rank = list(Verdict).index
    return tuple(sorted(reasons, key=lambda reason: -rank(reasons[reason])))
