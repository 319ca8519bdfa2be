"""``medward deidentify``: a folder, its report, its exit code, and what a kill leaves."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from support.burned_in import PLANTED, WhiteReader, inked, planted_header
from support.dicom_files import dicom_bytes, dicom_file

from medward.integrations.cli import main

pytest.importorskip("rapidocr", reason="the extra deidentify is not installed")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def reader(monkeypatch):
    """A reader that needs no network, in the place of RapidOCR."""
    monkeypatch.setattr(
        "medward.guard.intake.deidentify.reading.RapidReader.read",
        lambda self, grey, *, scale=1.0: WhiteReader(PLANTED).read(grey, scale=scale),
    )


@pytest.fixture
def source(tmp_path):
    """A folder, named after a patient as hospitals do, of good and of bad files."""
    folder = tmp_path / "in" / PLANTED
    folder.mkdir(parents=True)
    (folder / "header.dcm").write_bytes(dicom_bytes(planted_header()))
    (folder / "again.dcm").write_bytes(dicom_bytes(planted_header(SOPInstanceUID="1.2.826.0.1.9")))
    (folder / "copy.dcm").write_bytes((folder / "header.dcm").read_bytes())
    (folder / "text.dcm").write_bytes(dicom_file(inked()[0], Modality="US"))
    (folder / f"{PLANTED}.txt").write_text(f"notes on {PLANTED}")
    (folder / "cut.dcm").write_bytes(dicom_bytes(planted_header())[:900])
    (folder / "link.dcm").symlink_to(folder / "header.dcm")
    return tmp_path / "in"


def run(source, tmp_path, *more, out="out"):
    with pytest.raises(SystemExit) as ended:
        main(["deidentify", str(source), "--out", str(tmp_path / out), "--key", str(tmp_path / "key"), *more])
    return ended.value.code


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("reader")
def test_a_folder_with_a_report_that_names_no_one(source, tmp_path, capfd, caplog):
    before = contents(source)
    assert run(source, tmp_path) == 1
    said = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (said["files"], said["written"], said["refused"], said["with_filled_text"]) == (7, 4, 3, 1)
    assert contents(source) == before
    words = capfd.readouterr()
    everything = "\n".join((words.out, words.err, caplog.text))
    # Console messages name the folder that the user typed, and nothing below it.
    assert PLANTED not in everything.replace(str(source), "")
    for path, content in contents(tmp_path / "out").items():
        assert PLANTED.casefold() not in str(path).casefold()
        assert PLANTED.casefold().encode() not in content.lower()
    text = (tmp_path / "out" / "report.md").read_text()
    assert "is no DICOM, PNG or JPEG file" in text
    assert "is a DICOM file that is cut off or damaged" in text
    assert "Pass on the folders of images only" in text
    assert "*Markers kept* counts" in text
    assert "private attributes" in text
    (source_list,) = tmp_path.glob("key.out.*.csv")
    assert f"{PLANTED}/header.dcm" in source_list.read_text()
    assert source_list.stat().st_mode & 0o077 == 0


@pytest.mark.usefixtures("reader")
def test_two_files_of_one_instance_are_both_kept(source, tmp_path):
    run(source, tmp_path)
    said = json.loads((tmp_path / "out" / "report.json").read_text())
    names = [each["name"] for each in said["per_file"] if each["name"]]
    assert len(set(names)) == len(names) == 4
    assert {dcmread(tmp_path / "out" / each).PatientIdentityRemoved for each in names} == {"YES"}


@pytest.mark.usefixtures("reader")
def test_a_second_run_does_nothing_again_and_another_place_gets_the_same(source, tmp_path):
    run(source, tmp_path)
    before = contents(tmp_path / "out")
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.dcm")}
    assert run(source, tmp_path) == 1
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.dcm")} == stamps
    assert contents(tmp_path / "out") == before
    run(source, tmp_path, out="elsewhere")
    dicom = {path: content for path, content in before.items() if path.suffix == ".dcm"}
    assert {
        path: content for path, content in contents(tmp_path / "elsewhere").items() if path.suffix == ".dcm"
    } == dicom


@pytest.mark.usefixtures("reader")
def test_an_output_that_was_altered_is_made_again(source, tmp_path):
    run(source, tmp_path)
    path = next((tmp_path / "out").rglob("*.dcm"))
    right = path.read_bytes()
    path.write_bytes(b"altered")
    run(source, tmp_path)
    assert path.read_bytes() == right


@pytest.mark.usefixtures("reader")
def test_a_run_that_has_not_ended_leaves_no_report(source, tmp_path, monkeypatch):
    run(source, tmp_path)
    monkeypatch.setattr("medward.integrations.deidentification.folder.deidentify_file", lambda *_: 1 / 0)
    (source / "new.dcm").write_bytes(dicom_bytes(planted_header(SOPInstanceUID="1.2.826.0.1.10")))
    with pytest.raises(ZeroDivisionError):
        main(["deidentify", str(source), "--out", str(tmp_path / "out"), "--key", str(tmp_path / "key")])
    assert not list((tmp_path / "out").glob("report.*"))
    assert outputs(tmp_path / "out") == [".dcm"] * 4


@pytest.mark.usefixtures("reader")
def test_only_good_files_exit_with_zero(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "one.dcm").write_bytes(dicom_bytes(planted_header()))
    assert run(tmp_path / "in", tmp_path) == 0


@pytest.mark.parametrize(
    ("out", "key", "said"),
    [
        ("in/out", "key", "must not lie within each other"),
        (".", "key", "must not lie within each other"),
        ("in", "key", "must not lie within each other"),
        ("out", "out/key", "must not lie in the output"),
        ("out", "in/key", "must not lie in the source"),
        ("full", "key", "is not empty and no earlier run's"),
        ("out", "full/file", "is no key of 32 bytes"),
        ("out", "in", "must not lie in the source"),
        ("out", "out", "must not lie in the output"),
        ("out", "full/link", "must not lie in the source"),
        ("out", "full", "is a folder or no plain file; name a file, there or not yet, for --key"),
        ("out", "nodir/key", "nodir is no folder; make it first, or name another file for --key"),
        ("out", "full/file/key", "full/file is no folder; make it first, or name another file for --key"),
        ("full/file", "key", "full/file: is no folder; name a new folder for --out"),
        ("full/file/out", "key", "full/file: is no folder; name a new folder for --out"),
    ],
)
def test_mistakes_end_in_one_sentence_and_make_nothing(source, tmp_path, capsys, out, key, said):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("precious")
    (tmp_path / "full" / "link").symlink_to(source / "key")
    before, names = contents(tmp_path), sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as ended:
        main(["deidentify", str(source), "--out", str(tmp_path / out), "--key", str(tmp_path / key)])
    assert ended.value.code == 3
    words = capsys.readouterr()
    assert said in words.err
    assert words.err.count("\n") == 1
    assert words.out == ""
    assert (contents(tmp_path), sorted(tmp_path.rglob("*"))) == (before, names)


@pytest.mark.parametrize("below", ["", "empty/folders"])
def test_a_folder_without_files_is_a_mistake_and_changes_nothing(tmp_path, capsys, below):
    (tmp_path / "in" / below).mkdir(parents=True)
    assert run(tmp_path / "in", tmp_path) == 3
    assert "holds 0 files at any depth; name the folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_folder_that_cannot_be_listed_is_not_named(source, tmp_path, capsys, monkeypatch):
    def walk(folder, *, onerror):
        onerror(PermissionError(13, "Permission denied", f"{folder}/{PLANTED}"))

    monkeypatch.setattr("medward.integrations.deidentification.folder.os.walk", walk)
    assert run(source, tmp_path) == 3
    error = capsys.readouterr().err
    assert "a folder in it cannot be listed (Permission denied)" in error
    assert PLANTED not in error


@pytest.mark.parametrize(("refused", "of"), [("out", "--out"), ("keys", "--key")])
def test_a_place_that_may_not_be_written_is_refused_first(source, tmp_path, capsys, monkeypatch, refused, of):
    for name in ("out", "keys"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr("os.access", lambda path, mode: not mode & os.W_OK or Path(path).name != refused)
    with pytest.raises(SystemExit) as ended:
        main(["deidentify", str(source), "--out", str(tmp_path / "out"), "--key", str(tmp_path / "keys" / "key")])
    assert ended.value.code == 3
    error = capsys.readouterr().err
    assert "written" in error
    assert of in error
    assert not list((tmp_path / "out").iterdir()) + list((tmp_path / "keys").iterdir())


@pytest.mark.usefixtures("reader")
def test_another_key_for_the_same_output_is_refused(source, tmp_path, capsys):
    run(source, tmp_path)
    with pytest.raises(SystemExit):
        main(["deidentify", str(source), "--out", str(tmp_path / "out"), "--key", str(tmp_path / "key2")])
    assert "was written with another key" in capsys.readouterr().err
    assert not (tmp_path / "key2").exists()


@pytest.fixture
def shifting_reader(monkeypatch):
    """A reader whose eyes are opened, and closed, by the test: ``see(True)``."""
    eyes = WhiteReader(PLANTED)
    seen = {"now": False}
    monkeypatch.setattr(
        "medward.guard.intake.deidentify.reading.RapidReader.read",
        lambda self, grey, *, scale=1.0: eyes.read(grey, scale=scale) if seen["now"] else (),
    )

    def see(now, *, stubborn=False):
        seen["now"], eyes.stubborn = now, stubborn

    return see


def outputs(folder):
    return sorted(path.suffix for path in folder.rglob("*") if path.suffix in (".dcm", ".png", ".jpg"))


def report(folder):
    return json.loads((folder / "report.json").read_text())


def test_what_an_earlier_run_wrote_and_this_one_did_not_is_removed(tmp_path, shifting_reader):
    (tmp_path / "in").mkdir()
    pixels = np.full((128, 128), 60, np.uint8)
    pixels[32:48, 24:72] = 255  # whole blocks of eight, which a JPEG keeps as they are
    Image.fromarray(pixels).save(tmp_path / "in" / "a.jpg", quality=98)
    assert run(tmp_path / "in", tmp_path) == 0
    assert (outputs(tmp_path / "out"), report(tmp_path / "out")["earlier_outputs_removed"]) == ([".jpg"], 0)
    shifting_reader(True)
    run(tmp_path / "in", tmp_path, "--everywhere")
    assert outputs(tmp_path / "out") == [".png"]
    assert report(tmp_path / "out")["earlier_outputs_removed"] == 1
    assert "1 files that earlier runs wrote here" in (tmp_path / "out" / "report.md").read_text()


@pytest.mark.parametrize("withdrawn", [True, False])
def test_no_output_of_a_refused_or_withdrawn_source_stays(tmp_path, shifting_reader, withdrawn):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.dcm").write_bytes(dicom_file(np.full((64, 64), 400, np.uint16), bits=12))
    (tmp_path / "in" / "notes.txt").write_text("refused")
    run(tmp_path / "in", tmp_path)
    assert outputs(tmp_path / "out") == [".dcm"]
    theirs = tmp_path / "out" / "somebody"
    theirs.mkdir()
    (theirs / "else.dcm").write_bytes(b"not Medward's")
    if withdrawn:
        (tmp_path / "in" / "x.dcm").unlink()
    shifting_reader(True, stubborn=True)
    run(tmp_path / "in", tmp_path, "--everywhere")
    said = report(tmp_path / "out")
    assert (said["written"], said["refused"], said["earlier_outputs_removed"]) == (0, 2 - withdrawn, 1)
    assert outputs(tmp_path / "out") == [".dcm"]
    assert [path.name for path in (tmp_path / "out").iterdir() if path.is_dir() and path.name[0] != "."] == ["somebody"]


@pytest.mark.usefixtures("shifting_reader")
def test_an_output_that_was_changed_since_stays_and_is_reported(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.dcm").write_bytes(dicom_file(np.full((64, 64), 400, np.uint16), bits=12))
    run(tmp_path / "in", tmp_path)
    next((tmp_path / "out").rglob("*.dcm")).write_bytes(b"by hand")
    (tmp_path / "in" / "x.dcm").rename(tmp_path / "in" / "y.txt")
    (tmp_path / "in" / "y.txt").write_text("refused")
    run(tmp_path / "in", tmp_path)
    said = report(tmp_path / "out")
    assert (said["earlier_outputs_removed"], said["earlier_outputs_kept"]) == (0, 1)
    assert outputs(tmp_path / "out") == [".dcm"]


@pytest.mark.usefixtures("shifting_reader")
def test_a_list_of_outputs_that_points_elsewhere_removes_nothing_there(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("refused")
    run(tmp_path / "in", tmp_path)
    (tmp_path / "precious.dcm").write_bytes(b"precious")
    digest = hashlib.sha256(b"precious").hexdigest()
    (tmp_path / "out" / ".medward-deidentify" / "written").write_text(f"{digest} ../precious.dcm\n")
    run(tmp_path / "in", tmp_path)
    assert (tmp_path / "precious.dcm").exists()


@pytest.mark.usefixtures("reader")
def test_a_linked_folder_is_a_refusal(tmp_path):
    for name in ("in", "elsewhere"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "one.dcm").write_bytes(dicom_bytes(planted_header()))
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "elsewhere")
    assert run(tmp_path / "in", tmp_path) == 1
    said = report(tmp_path / "out")
    assert (said["files"], said["written"], said["refused"]) == (2, 1, 1)


@pytest.mark.usefixtures("reader")
def test_outputs_of_one_name_in_two_places_have_lists_of_their_own(source, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        run(source, tmp_path, out=f"{name}/out")
    assert len(list(tmp_path.glob("key.out.*.csv"))) == 2


def killed_and_resumed(tmp_path, files):
    """Kill a run half way, then let it end; both outputs, and whether anything written was torn."""
    (tmp_path / "in").mkdir()
    for index in range(files):
        pixels = np.full((64, 64), 400 + index % 7, np.uint16)
        (tmp_path / "in" / f"{index}.dcm").write_bytes(dicom_file(pixels, bits=12, patient=str(index // 5)))
    command = [sys.executable, "-m", "medward", "deidentify", "in", "--key", "key", "--out"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([*command, "killed"], cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while len(list((tmp_path / "killed").rglob("*.dcm"))) < files // 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list((tmp_path / "killed").glob("report.*"))
    half = {path: path.read_bytes() for path in (tmp_path / "killed").rglob("*.dcm")}
    stamps = {path: path.stat().st_mtime_ns for path in half}
    for out in ("killed", "whole"):
        subprocess.run([*command, out], cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, check=True)
    again = sum(path.stat().st_mtime_ns != stamp for path, stamp in stamps.items())
    return half, again


@pytest.mark.parametrize("files", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_killed_run_goes_on(tmp_path, files):
    half, again = killed_and_resumed(tmp_path, files)
    killed, whole = (contents(tmp_path / each) for each in ("killed", "whole"))
    dicom = {path for path in whole if path.suffix == ".dcm"}
    assert len(dicom) == files
    assert {path: killed[path] for path in dicom} == {path: whole[path] for path in dicom}
    assert all(killed[path.relative_to(tmp_path / "killed")] == content for path, content in half.items())
    assert files // 3 <= len(half) < files
    assert again <= 1  # the one that was written and not yet noted
    assert not list((tmp_path / "killed").rglob("*.tmp"))
