"""The Kaggle file: what is refused before it is sent, and what counts as sent."""

import pytest

from lymphoml.core.errors import InputError
from lymphoml.runs.submission import check_submission, public_scores, submit, wait_for_score
from tests.fake_kaggle import COMPETITION, TOKEN

TEST_IDS, HEADER = ["P75", "P7", "P12"], ("ID", "LABEL")
CONTENT = "ID,LABEL\nP75,1\nP7,0\nP12,1\n"


@pytest.fixture
def submission(tmp_path):
    path = tmp_path / "submission.csv"
    path.write_text(CONTENT)
    return path


@pytest.mark.parametrize(("content", "problem"), [
    ("", ":1: the header is nothing"),
    ("Id,Predicted\nP75,1\n", ":1: the header is Id,Predicted, must be ID,LABEL"),
    ("ID,LABEL\nP75,1\nP7\nP12,1\n", ":3: must have exactly 2 values"),
    (CONTENT.replace("12,1", "12,tumoral"), "labels other than 0 and 1: P12=tumoral"),
    (CONTENT[:-6], "1 test patients without a label, must have one: P12"),
    (CONTENT + "P1,0\n", "not in the test table, leave them out: P1$"),
    (CONTENT + "P7,0\n", "given more than once, keep one: P7$"),
])  # fmt: skip
def test_wrong_files_are_refused(submission, content, problem):
    check_submission(submission, TEST_IDS, HEADER)
    submission.write_text(content)
    with pytest.raises(InputError, match=problem):
        check_submission(submission, TEST_IDS, HEADER)


def test_all_problems_are_reported_at_once(submission):
    submission.write_text("ID,LABEL\nP7,0\nP7,1\nP1,2\n")
    with pytest.raises(InputError) as refusal:
        check_submission(submission, TEST_IDS, HEADER)
    assert len(refusal.value.problems) == 4


# Below, Kaggle's real client talks to a stand-in for the server: about 2 s each.


def test_a_confirmed_submission_arrives_whole_with_its_message(kaggle, submission, monkeypatch):
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    confirmation = submit(submission, COMPETITION, message="-mean pooling, été")
    assert confirmation == "Successfully submitted to Spot the Lymphoma"
    assert kaggle.uploads == [submission.read_bytes()]
    [received] = kaggle.submissions
    assert received["submissionDescription"] == "-mean pooling, été"
    assert received["blobFileTokens"] == "blob"


def test_the_public_score_is_that_of_this_submission(kaggle, submission, monkeypatch):
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    before = public_scores(COMPETITION)
    assert before == {"0": "0.9"}
    kaggle.scores += [""]  # sent, not yet scored
    assert wait_for_score(COMPETITION, before, timeout=0.1) is None
    kaggle.scores[1] = "0.83"
    assert wait_for_score(COMPETITION, before) == "0.83"
    kaggle.scores += ["0.7"]  # either could be this one
    assert wait_for_score(COMPETITION, before) is None


@pytest.mark.slow
def test_the_token_file_that_the_message_names_is_read(kaggle, submission, tmp_path):
    (tmp_path / ".kaggle").mkdir()
    (tmp_path / ".kaggle" / "access_token").write_text(f"{TOKEN}\n")
    assert submit(submission, COMPETITION, "message").startswith("Successfully")


@pytest.mark.slow
@pytest.mark.parametrize(("token", "competition", "problem"), [
    (TOKEN, "another", "not confirmed as submitted to another.*answered: Not found"),
    ("wrong-token", COMPETITION, "no valid credentials.*KAGGLE_API_TOKEN"),
    (None, COMPETITION, "no valid credentials"),
    ("odd1\nlines", COMPETITION, r"\*\*\*"),
    ("odd2" * 100, COMPETITION, r"\*\*\*"),
])  # fmt: skip
def test_what_kaggle_refuses_is_explained_without_the_token(
    kaggle, submission, monkeypatch, token, competition, problem
):
    if token:
        monkeypatch.setenv("KAGGLE_API_TOKEN", token)
    with pytest.raises(InputError, match=problem) as refusal:
        submit(submission, competition, "message")
    assert len(refusal.value.problems) == 1
    assert token is None or token[:8] not in str(refusal.value)
    assert not kaggle.submissions


@pytest.mark.slow
def test_a_server_that_hangs_is_abandoned(kaggle, submission, monkeypatch):
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    kaggle.hang_on = "IntrospectToken"
    with pytest.raises(InputError, match=r"not answer within 2 seconds; .*before sending it again"):
        submit(submission, COMPETITION, "message", timeout=2)


def test_a_missing_client_is_reported(submission, monkeypatch):
    monkeypatch.setattr("lymphoml.core.kaggle_client.find_spec", lambda name: None)
    with pytest.raises(InputError, match="not installed"):
        submit(submission, COMPETITION, "message")
