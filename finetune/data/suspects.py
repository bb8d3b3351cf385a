"""Things a training text should not carry unseen: credentials, and licence headers.

Patterns of well-known issuers, chosen to be rare in honest code. Knows single texts only.
"""

import re

SECRETS = {
    "private key": r"-----BEGIN (?:RSA |EC |OPENSSH |DSA |PGP )?PRIVATE KEY(?: BLOCK)?-----",
    "AWS access key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,})\b",
    "GitLab token": r"\bglpat-[A-Za-z0-9_-]{20,}\b",
    "Slack token": r"\bxox[abprs]-[A-Za-z0-9-]{10,}\b",
    "Google API key": r"\bAIza[0-9A-Za-z_-]{35}\b",
    "OpenAI key": r"\bsk-(?:proj-)?[A-Za-z0-9_-]{32,}\b",
    "Anthropic key": r"\bsk-ant-[A-Za-z0-9_-]{20,}\b",
    "Hugging Face token": r"\bhf_[A-Za-z0-9]{30,}\b",
    "Stripe key": r"\b[sr]k_live_[A-Za-z0-9]{20,}\b",
    "PyPI token": r"\bpypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{50,}\b",
    "JSON web token": r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",
    "password in a URL": r"\b[a-z][a-z0-9+.-]*://[^\s/:@]{1,64}:[^\s/:@]{6,64}@[a-z0-9.-]+",
}
LICENCES = {
    "SPDX": r"SPDX-License-Identifier:\s*([A-Za-z0-9.+-]+)",
    "AGPL": r"GNU Affero General Public License",
    "LGPL": r"GNU Lesser General Public License",
    "GPL": r"GNU General Public License",
    "Apache-2.0": r"Licensed under the Apache License, Version 2\.0",
    "MIT": r"Permission is hereby granted, free of charge, to any person obtaining a copy",
    "BSD": r"Redistribution and use in source and binary forms",
    "MPL-2.0": r"Mozilla Public License,? v(?:ersion|\.) ?2\.0",
    "all rights reserved": r"(?i:all rights reserved)",
}
_SECRETS = {name: re.compile(pattern) for name, pattern in SECRETS.items()}
_LICENCES = {name: re.compile(pattern) for name, pattern in LICENCES.items()}


def secrets_in(text: str) -> list[str]:
    """Return the kinds of credentials that a text seems to hold."""
    return [name for name, pattern in _SECRETS.items() if pattern.search(text)]


def licences_in(text: str) -> list[str]:
    """Return the licences whose headers or notices a text holds."""
    found = []
    for name, pattern in _LICENCES.items():
        match = pattern.search(text)
        if match:
            found.append(match.group(1) if name == "SPDX" else name)
    return found
