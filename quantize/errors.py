"""What can go wrong while quantizing, as one tree; knows nothing of how it is printed.

QuantizeError                 exit 2: something the user can act on
├── ConfigError               unknown key, bad value, unknown or unsupported quant type
│   └── BudgetError           a byte budget no choice of types can meet
├── SourceError               the thing to quantize is missing, unfinished or not usable
│   ├── GgufError             not a GGUF, damaged, or cut short
│   └── ImatrixError          an importance matrix that is damaged or another model's
├── MergeError                the adapter cannot be merged exactly
├── ConversionError           the converter refused the model
├── TemplateShapeError        a chat template has no exact equivalent elsewhere
├── SpaceError                not enough free disk
├── LibraryError              llama.cpp is missing, mismatched, or refused a call
├── RunError                  a run directory is unfinished, in use or newer than this reader
├── ServerError               `python -m serve` did not start or did not answer
│   └── ServerAbsentError     what it needs is not installed
├── EvaluatorError            `python -m clients evaluate` could not judge a file
└── VerificationError         exit 1: a hop changed the model's behaviour
"""

from typing import ClassVar


class QuantizeError(Exception):
    """Carry one clear line: what, the actual value, the limit, the remedy."""

    exit_code: ClassVar[int] = 2


class ConfigError(QuantizeError):
    """Reject a configuration before any work starts."""


class BudgetError(ConfigError):
    """Report a byte budget that no choice of tensor types can meet."""


class SourceError(QuantizeError):
    """Reject what was to be quantized."""


class GgufError(SourceError):
    """Reject a file that is no complete GGUF."""


class ImatrixError(SourceError):
    """Reject an importance matrix that is damaged or was made for another model."""


class MergeError(QuantizeError):
    """Reject an adapter that cannot be merged exactly, or a merge that was not exact."""


class ConversionError(QuantizeError):
    """Report that the converter refused the model."""


class TemplateShapeError(QuantizeError):
    """Say why a chat template cannot be written in another language."""


class SpaceError(QuantizeError):
    """Report that the disk cannot hold the result."""


class LibraryError(QuantizeError):
    """Report that llama.cpp is missing, of another version, or failed."""


class RunError(QuantizeError):
    """Reject a run directory that is unfinished, in use or too new."""


class ServerError(QuantizeError):
    """Report that the server, run as a command, failed."""


class ServerAbsentError(ServerError):
    """Report that the server cannot run in this environment."""


class EvaluatorError(QuantizeError):
    """Report that the evaluator, run as a command, failed."""


class VerificationError(QuantizeError):
    """Report the hop, the case and the first difference."""

    exit_code: ClassVar[int] = 1
