"""Credentials and licence notices are recognised, ordinary code is not."""

import pytest

from finetune.data.suspects import licences_in, secrets_in


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("-----BEGIN RSA " + "PRIVATE KEY-----", "private key"),
        ("key = 'AKIA" + "ABCDEFGHIJKLMNOP'", "AWS access key"),
        ("token: ghp_" + "a1" * 20, "GitHub token"),
        ("HF = 'hf_" + "Ab1" * 11 + "'", "Hugging Face token"),
        ("postgres://admin:" + "hunter22@db.example.org/x", "password in a URL"),
    ],
)
def test_a_credential_is_named(text, kind):
    assert secrets_in(text) == [kind]


@pytest.mark.parametrize(
    "text",
    [
        "def key(x):\n    return x.private_key",
        "https://example.org:8080/path@2",
        "password = os.environ['PASSWORD']",
        "sk-learn is a library; hf_hub_download fetches a file",
    ],
)
def test_ordinary_code_holds_none(text):
    assert secrets_in(text) == []


def test_licence_notices_are_named_by_licence():
    assert licences_in("# SPDX-License-Identifier: MPL-2.0\n") == ["MPL-2.0"]
    assert licences_in("under the terms of the GNU General Public License") == ["GPL"]
    assert licences_in("print('hello')") == []
