"""Downloads from the Hugging Face hub, and one clear message for each way they fail.

Knows the hub's errors. Knows nothing of models' or data sets' contents.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from finetune.errors import HubError

SITE = "https://huggingface.co"
MODEL_FILES = ["*.safetensors", "*.json", "*.model", "*.jinja", "*.txt", "README.md", "LICENSE*"]


def split_revision(ref: str) -> tuple[str, str | None]:
    """Split `owner/name@revision`."""
    name, at, revision = ref.partition("@")
    return name, revision if at else None


def fetch_model(ref: str) -> tuple[Path, str]:
    """Download a model's safetensors and tokenizer; return the folder and the exact commit.

    Raises:
        HubError: offline, not found, gated or unauthorised.
    """
    from huggingface_hub import snapshot_download

    name, revision = split_revision(ref)
    with explained(name, page=f"{SITE}/{name}"):
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=MODEL_FILES))
    return folder, folder.name


def dataset_card(name: str, revision: str | None) -> str:
    """Return the text of a data set's card, empty when it has none."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        path = hf_hub_download(name, "README.md", repo_type="dataset", revision=revision)
    except EntryNotFoundError:
        return ""
    return Path(path).read_text(encoding="utf-8", errors="replace")


@contextmanager
def explained(name: str, *, page: str) -> Iterator[None]:
    """Turn the hub's errors into one message that says what to do."""
    import httpx
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise HubError(_gated(name, page)) from error
    except errors.RevisionNotFoundError as error:
        raise HubError(f"{name} has no such revision; see {page}/tree/main") from error
    except errors.RepositoryNotFoundError as error:
        raise HubError(_not_found(name, page)) from error
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError) as error:
        raise HubError(_unreachable(name)) from error
    except errors.HfHubHTTPError as error:
        raise HubError(_http(error, name, page)) from error
    except errors.HFValidationError as error:
        raise HubError(f"{name} is not a hub id of the form owner/name") from error
    except (httpx.HTTPError, ConnectionError, TimeoutError) as error:
        raise HubError(_unreachable(name)) from error


def _gated(name: str, page: str) -> str:
    return (
        f"{name} is gated: accept its licence at {page}, then set HF_TOKEN or run "
        "`hf auth login` (`huggingface-cli login` in older versions) and start again; "
        "downloads resume where they stopped"
    )


def _not_found(name: str, page: str) -> str:
    return (
        f"{name} was not found on the hub, or it is private and this machine is not authorised: "
        f"check {page}, set HF_TOKEN or run `hf auth login`"
    )


def _unreachable(name: str) -> str:
    return (
        f"{name} is not on this machine and the hub cannot be reached (offline?): connect and "
        "start again, downloads resume where they stopped; or use a local copy"
    )


def _http(error: Exception, name: str, page: str) -> str:
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if status in {401, 403}:
        return _gated(name, page)
    return (
        f"the hub answered {status or 'with an error'} for {name}: try again later, "
        "downloads resume where they stopped"
    )
