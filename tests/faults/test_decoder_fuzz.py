"""Two hundred damaged recordings, and a server that answers each.

``vivavoce bench recipe decoder_fuzz`` sends twenty thousand.
"""

from __future__ import annotations

from audio import recordings
from faults.decoder_fuzz import Fuzzed, fuzz, mutants
from quality.live import serving

COUNT = 200


def test_the_mutants_are_the_same_in_every_run_and_differ_from_each_other() -> None:
    one, other = (list(mutants(0, 40)) for _ in range(2))
    assert one == other
    assert len({data for _, _, data in one}) == len(one)
    assert {name for name, _, _ in one} == set(recordings.FORMATS)


def test_every_damaged_recording_is_answered_and_none_ends_the_server() -> None:
    with serving("fake", {"audio_cache_max": 0}) as server:
        found = Fuzzed()
        fuzz(server, mutants(0, COUNT), found)
        assert found.failed == []
        assert found.count == COUNT
        assert server.process.poll() is None
        for name, answers in found.answers.items():
            assert answers[400], f"no {name} was damaged enough to be refused"
        assert sum(answers[200] for answers in found.answers.values())
        with server.client() as client:
            spoken = client.post("/v1/audio/speech", json={"input": "And the next call."})
            assert spoken.status_code == 200
            health = client.get("/health").json()
        assert (health["running"], health["queue_depth"]) == (0, 0)
        died = server.metric("tts_decoder_processes", state="died")
        assert died <= COUNT / 20, "the decoder itself refuses what it cannot read"
        assert [record for record in server.logged() if record["level"] == "ERROR"] == []
