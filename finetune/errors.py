"""The errors a user can meet while fine-tuning; each message says what, the value, the remedy.

    FinetuneError           exit 2
    ├── ConfigError         a key or value of the configuration
    ├── HubError            a download from the model hub
    ├── BaseModelError      base weights or tokenizer
    ├── TemplateError       the chat template
    ├── DataError           the examples
    ├── RunError            the run directory
    ├── EvaluationError     problems, answers or scores of an evaluation
    └── TrainingError       exit 1: the training itself went wrong
        └── InterruptedRunError     exit 128 + signal; the run can be resumed

Knows no command line: `__main__` prints the message and uses `exit_code`.
"""


class FinetuneError(Exception):
    """Anything this stage refuses, with one clear line as its message."""

    exit_code = 2


class ConfigError(FinetuneError):
    """A configuration that cannot be used."""


class HubError(FinetuneError):
    """A model or data set that cannot be fetched from the hub."""


class BaseModelError(FinetuneError):
    """A base model that cannot be located, read or trusted."""


class TemplateError(FinetuneError):
    """A chat template that is missing or would teach the wrong thing."""


class DataError(FinetuneError):
    """Examples that are missing, malformed or empty."""


class RunError(FinetuneError):
    """A run directory that cannot be used as asked."""


class EvaluationError(FinetuneError):
    """An evaluation that cannot be made or read."""


class TrainingError(FinetuneError):
    """Training that started and cannot go on."""

    exit_code = 1


class InterruptedRunError(TrainingError):
    """Training stopped by a signal, after saving a checkpoint."""

    def __init__(self, message: str, *, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number
