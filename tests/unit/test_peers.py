"""The page of other trainers' options: complete, of entries and settings that exist, with sources."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.config.fields import check_ranges
from harness.registry import methods
from harness.registry.peers import DATA, peer_page, read_peers
from harness.util.errors import UserError

ROOT = Path(__file__).parents[2]
WANTED = (
    "TRL", "verl", "prime-rl", "slime", "SkyRL", "NeMo-RL", "OpenRLHF", "ROLL", "AReaL", "Trinity-RFT",
    "ms-swift",
)  # fmt: skip


def test_every_peer_is_there_once_with_its_commit() -> None:
    peers = read_peers(ROOT)
    assert tuple(peer.name for peer in peers) == WANTED
    for peer in peers:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", peer.repository) and peer.notes
        typed = [option.option for option in peer.options]
        assert len(typed) == len(set(typed)) and len(typed) >= 5, peer.name
        for option in peer.options:
            assert re.fullmatch(r"[0-9a-f]{40}", option.commit or peer.commit), (peer.name, option.option)
            assert re.fullmatch(r"[\w./-]+\.(py|yaml)", option.file), (peer.name, option.option)


def test_every_entry_and_every_setting_exists() -> None:
    for peer in read_peers(ROOT):
        for option in peer.options:
            where = f"{peer.name}: {option.option}"
            if option.entry is None:
                assert option.note and not option.values, where
                continue
            assert option.entry in methods.entries(), where
            method = methods.load(option.entry)
            check_ranges(method(**option.values), where)
            default = method()
            said = [key for key, value in option.values.items() if getattr(default, key) == value]
            assert not said, f"{where}: {said} are defaults"


def test_methods_named_in_notes_exist() -> None:
    """Names that look like an entry's with a variant, wherever they stand."""
    text = (ROOT / DATA).read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z0-9-]+@[a-z0-9-]+)`", text))
    assert named and named <= set(methods.entries())


def test_the_page_says_what_the_file_says() -> None:
    page = peer_page(ROOT)
    for peer in read_peers(ROOT):
        assert f"\n## {peer.name}\n" in page
        for option in peer.options:
            sections = [part for part in page.split("\n## ") if part.startswith(f"{peer.name}\n")]
            (line,) = [x for x in sections[0].splitlines() if x.startswith(f"| `{option.option}` |")]
            assert f"/blob/{option.commit or peer.commit}/{option.file})" in line
            assert (f"[`{option.entry}`](" if option.entry else "| no entry |") in line
    assert "| `loss_type=bnpo` | [`grpo`](grpo.md)<br>`aggregation=token-mean` |" in page
    assert re.search(r"^\| \[`clip-cov`\]\(clip-cov.md\) \| verl, SkyRL \|$", page, re.M)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{option: a, entry: no-such, file: a.py}", "no method no-such"),
        ("{option: a, file: a.py}", "entry"),
        ("{option: a, entry: grpo, file: a.py, nott: b}", "nott"),
    ],
)
def test_a_wrong_row_is_refused_by_name(tmp_path: Path, row: str, message: str) -> None:
    (tmp_path / DATA).parent.mkdir(parents=True)
    head = "peers: [{name: X, repository: a/b, commit: c, notes: [], options: ["
    (tmp_path / DATA).write_text(f"{head}{row}]}}]")
    with pytest.raises(UserError, match=message):
        peer_page(tmp_path)
