"""What names in pickles mean: the tables behind the verdict.

Nothing is left to a list of known attacks: what belongs to Python itself, to torch, to numpy, to
this program or to tools that run commands is dangerous unless it is on the list of harmless names.
Sources of the harmless names: pytorch/pytorch `torch/_weights_only_unpickler.py`,
AUTOMATIC1111/stable-diffusion-webui `modules/safe.py`, and training checkpoints in the wild.
"""

from __future__ import annotations

import sys


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg", "exceptions": "builtins"}
"""Module of Python 2 -> of Python 3."""

HARMLESS = _words(
    """
    collections.OrderedDict collections.Counter collections.defaultdict collections.deque
    builtins.dict builtins.list builtins.tuple builtins.set builtins.frozenset builtins.bytes
    builtins.bytearray builtins.complex builtins.int builtins.float builtins.bool builtins.str
    builtins.long builtins.unicode builtins.slice builtins.range builtins.xrange builtins.object
    builtins.Ellipsis builtins.NotImplemented builtins.NoneType _codecs.encode
    copyreg._reconstructor copyreg.__newobj__ datetime.date datetime.time datetime.datetime
    datetime.timedelta datetime.timezone argparse.Namespace types.SimpleNamespace decimal.Decimal
    fractions.Fraction uuid.UUID pathlib.Path pathlib.PosixPath pathlib.WindowsPath
    pathlib.PurePath pathlib.PurePosixPath pathlib.PureWindowsPath pathlib._local.Path
    pathlib._local.PosixPath pathlib._local.WindowsPath pathlib._local.PurePosixPath
    pathlib._local.PureWindowsPath typing.Any typing.Union typing.Optional typing.List typing.Dict
    typing.Tuple torch.Size torch.device torch.Tensor torch.nn.Parameter
    torch.nn.parameter.Parameter torch.nn.parameter.Buffer torch.serialization._get_layout
    torch.storage.UntypedStorage torch.storage.TypedStorage torch.storage._TypedStorage
    torch.storage._UntypedStorage torch._utils._rebuild_tensor torch._utils._rebuild_tensor_v2
    torch._utils._rebuild_tensor_v3 torch._utils._rebuild_parameter
    torch._utils._rebuild_parameter_with_state torch._utils._rebuild_sparse_tensor
    torch._utils._rebuild_qtensor torch._utils._rebuild_meta_tensor_no_storage
    torch._utils._rebuild_nested_tensor torch._utils._rebuild_device_tensor_from_numpy
    torch._utils._rebuild_device_tensor_from_cpu_tensor torch._utils._rebuild_wrapper_subclass
    torch._tensor._rebuild_from_type_v2 torch._tensor._rebuild_from_type
    torch.jit._pickle.build_intlist torch.jit._pickle.build_tensorlist
    torch.jit._pickle.build_doublelist torch.jit._pickle.build_boollist
    torch.jit._pickle.build_tensor_from_id torch.jit._pickle.restore_type_tag numpy.dtype
    numpy.ndarray numpy.bool numpy.bool_ numpy.float16 numpy.float32 numpy.float64 numpy.int8
    numpy.int16 numpy.int32 numpy.int64 numpy.uint8 numpy.uint16 numpy.uint32 numpy.uint64
    numpy.complex64 numpy.complex128 numpy.str_ numpy.bytes_ numpy.datetime64
    numpy.core.multiarray.scalar numpy.core.multiarray._reconstruct numpy.core.numeric._frombuffer
    numpy._core.multiarray.scalar numpy._core.multiarray._reconstruct
    numpy._core.numeric._frombuffer numpy.random._pickle.__randomstate_ctor
    numpy.random._pickle.__generator_ctor numpy.random._pickle.__bit_generator_ctor
    omegaconf.dictconfig.DictConfig omegaconf.listconfig.ListConfig omegaconf.base.Metadata
    omegaconf.base.ContainerMetadata omegaconf.base.Node omegaconf.nodes.AnyNode
    omegaconf.nodes.StringNode omegaconf.nodes.IntegerNode omegaconf.nodes.FloatNode
    omegaconf.nodes.BooleanNode torch.nn.backends.thnn._get_thnn_function_backend
    """
)
"""Names that do nothing but make tensors, plain containers, numbers, dates and paths."""

_TORCH_STORAGES = frozenset(
    f"{kind}Storage"
    for kind in _words(
        """
        Double Float Half BFloat16 Long Int Short Char Byte Bool ComplexDouble ComplexFloat
        QInt8 QUInt8 QInt32 QUInt4x2 QUInt2x4 Untyped Typed
        """
    )
)
_TORCH_TENSORS = frozenset(
    f"{kind}Tensor" for kind in _words("Double Float Half Long Int Short Char Byte")
)
_TORCH_TYPES = _words(
    """
    float32 float float64 double float16 half bfloat16 int8 uint8 int16 short int32 int int64 long
    uint16 uint32 uint64 bool complex32 complex64 complex128 qint8 quint8 qint32 float8_e4m3fn
    float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz float8_e8m0fnu float4_e2m1fn_x2 strided sparse_coo
    per_tensor_affine per_channel_affine
    """
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

_PYTHON_2_ONLY = _words(
    """
    commands cPickle cStringIO popen2 os2 urllib2 httplib UserDict UserList imp execfile dl new
    StringIO thread dummy_thread SocketServer SimpleHTTPServer BaseHTTPServer CGIHTTPServer
    xmlrpclib ConfigParser anydbm dbhash whichdb Queue Tkinter tkFileDialog compiler rexec ihooks
    Bastion asyncore asynchat smtpd pipes cgi crypt telnetlib nntplib distutils
    """
)
_OURS = _words("converters registry assetmgr tui")
_NUMERIC = _words("torch numpy scipy torchvision torchaudio")
_UNKNOWN_BUT_QUIET = ("torch.nn.functional.", "torch._C._nn.", "torch.storage._load_from_bytes")
"""Functions of torch that modules keep as attributes; the last one's argument is looked into."""

_TOOLS = _words(
    """
    pip setuptools pkg_resources _distutils_hack wheel IPython ipykernel jupyter requests urllib3
    httpx httpx2 aiohttp paramiko fabric invoke psutil pexpect ptyprocess sh plumbum cffi pycparser
    joblib dill cloudpickle jsonpickle shelve numba llvmlite pandas tensorflow keras jax sympy
    huggingface_hub fsspec s3fs gcsfs smart_open boto3 botocore docker win32api win32com pywintypes
    win32process wmi gevent eventlet twisted tornado flask django uvicorn gradio streamlit celery
    execnet rpyc pyro4 Pyro4 Crypto pyautogui pynput mitmproxy scapy yaml ruamel mako jinja2 lxml
    pytest _pytest nose hypothesis sqlalchemy fickling torchaudio_io multiprocess billiard
    virtualenv pydoc_data idlelib lib2to3 test turtledemo cython pyximport Cython nltk bdb_ ray
    dask
    """
)
_RUNS_COMMANDS = _words(
    """
    os posix nt subprocess commands popen2 pty _posixsubprocess multiprocessing pexpect sh plumbum
    paramiko fabric invoke asyncio _winapi _pyrepl
    """
)
_RUNS_CODE = _words(
    """
    runpy code codeop pdb bdb timeit profile cProfile trace doctest unittest importlib imp pkgutil
    zipimport site sysconfig types marshal pickle cPickle _pickle dill cloudpickle joblib shelve
    functools operator ctypes _ctypes cffi gc inspect sys threading _thread thread concurrent
    compileall py_compile pydoc ensurepip venv pip setuptools IPython ast dis atexit signal sched
    idlelib lib2to3 test distutils
    """
)
_OPENS = _words(
    """
    socket _socket ssl _ssl urllib urllib2 http httplib ftplib smtplib poplib imaplib telnetlib
    nntplib xmlrpc webbrowser requests urllib3 httpx aiohttp shutil io _io pathlib tempfile glob
    fileinput zipfile tarfile gzip bz2 lzma sqlite3 dbm mmap select selectors socketserver wsgiref
    logging linecache mailbox
    """
)
_REVEALING = _words(
    """
    system popen popen2 popen3 popen4 exec eval execfile compile __import__ import_module open
    getattr setattr delattr globals locals vars breakpoint exec_command run_command check_output
    check_call call Popen spawn fork execv execve execl execvp getoutput getstatusoutput
    __globals__ __builtins__ __subclasses__ __class__ __dict__ __reduce__ __getattribute__ __code__
    loads load_module exec_module run_path run_module interact rmtree remove unlink
    """
)
"""Last names that tell what is meant wherever they are taken from."""

RUNS_COMMANDS = "would run commands or reach the operating system"
RUNS_CODE = "would run code of the file's choice"
OPENS = "would open files or connections"

_BY_MODULE: tuple[tuple[frozenset[str], str], ...] = (
    (_OURS, "reaches into this program"),
    (_RUNS_COMMANDS, RUNS_COMMANDS),
    (_RUNS_CODE, RUNS_CODE),
    (_OPENS, OPENS),
    (
        sys.stdlib_module_names | _PYTHON_2_ONLY,
        "calls into Python itself, which no tensor file needs",
    ),
    (_TOOLS, "calls a tool that can run code or open connections"),
)
_BY_NAME: tuple[tuple[frozenset[str], str], ...] = (
    (_REVEALING | _RUNS_COMMANDS | _RUNS_CODE, RUNS_CODE),
    (_OPENS, OPENS),
)


def is_harmless(module: str, name: str) -> bool:
    """Whether making or calling this name does nothing but hold values; `module` of Python 3."""
    dotted = f"{module}.{name}"
    if dotted in HARMLESS:
        return True
    if module in {"torch", "torch.storage", "torch.cuda"} and name in _TORCH_STORAGES:
        return True
    if module in {"torch", "torch.cuda"} and name in _TORCH_TENSORS:
        return True
    if module == "torch" and name in _TORCH_TYPES:
        return True
    if module == "builtins" and name.endswith(("Error", "Exception", "Warning")):
        return True
    return is_class_name(name) and dotted.startswith(_HARMLESS_CLASSES_OF)


def danger(module: str, name: str) -> str | None:
    """Why a name that is not harmless is dangerous, in words, or None; `module` of Python 3."""
    top, parts = module.partition(".")[0], name.split(".")
    if top == "builtins" and not _REVEALING.isdisjoint(parts):
        return RUNS_CODE
    for modules, reason in _BY_MODULE:
        if top in modules:
            return reason
    for words, reason in _BY_NAME:
        if not words.isdisjoint(parts):
            return reason
    return _reach(top, f"{module}.{name}", parts)


def _reach(top: str, dotted: str, parts: list[str]) -> str | None:
    if dotted.startswith(_UNKNOWN_BUT_QUIET):
        return None
    if top in _NUMERIC and not is_class_name(parts[-1]):
        return f"calls a function of {top} that no tensor file needs"
    if not all(is_class_name(part) for part in parts[:-1]):
        return "reaches through one object into another"
    return None


def is_class_name(name: str) -> bool:
    """Whether a name is written as classes are: with a capital, after underscores."""
    return name.lstrip("_")[:1].isupper() and "." not in name
