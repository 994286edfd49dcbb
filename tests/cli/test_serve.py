import json
import socket
import subprocess
import urllib.error
import urllib.request
import uuid

import pytest
from commands import PROJECT, await_end, family, living, until


def get(url, token=None):
    request = urllib.request.Request(url, headers={"X-Auth-Token": token} if token else {})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def test_commands_work_beside_a_running_serve(commands, add_registry):
    with commands.serving() as serving:
        assert get(f"{serving.url}/readyz") == {"status": "ready"}
        commands("project", "create", "beside", "--id", "beside")
        add_registry("swr", project="beside")
        token = commands("token", "create", "--project", "beside").stdout.splitlines()[-1]
        # The service's own worker carries it out: the command has none while that one beats.
        run = commands.json("sync", "--project", "beside")["runs"][0]
        seen = get(f"{serving.url}/v5/beside/image/registries/images?limit=200", token)
        listed = commands.json("images", "--project", "beside")

    assert run["outcome"] == "complete"
    assert seen["total_num"] == len(listed) == 12
    assert {row["image_digest"] for row in seen["data_list"]} == {i["digest"] for i in listed}


def test_a_sync_needs_no_worker_of_a_serve(commands, add_registry):
    with commands.serving("--workers=0"):
        commands("project", "create", "alone", "--id", "alone")
        add_registry("swr", project="alone")

        run = commands.json("sync", "--project", "alone")["runs"][0]

    assert (run["outcome"], run["images"]) == ("complete", 12)


def test_a_stop_takes_every_process_along(data_dir):
    # A data directory of its own: nobody else keeps PostgreSQL up here.
    from commands import Commands

    with Commands(data_dir).serving("--sample") as serving:
        everybody = family(serving.process.pid)
        assert len(everybody) >= 2, "the service has no worker"

        code = serving.stop(within_s=10)

    assert code == 0
    until(lambda: not living(everybody), within_s=5)
    await_end(data_dir)
    until(lambda: not postgres_of(data_dir), within_s=5)


def postgres_of(data_dir):
    found = subprocess.run(
        ["pgrep", "-f", str(data_dir)], capture_output=True, text=True, check=False
    )
    return found.stdout.split()


def test_a_stopped_service_has_told_the_audit_of_every_refused_call(commands):
    commands("project", "create", "refused", "--id", "refused")
    with commands.serving("--workers=0") as serving:
        key = commands.json("token", "create", "--project", "refused")["token"]
        for path, token in (("/v5/another/image/registries", key), ("/v3/projects", "unknown")):
            with pytest.raises(urllib.error.HTTPError) as refusal:
                get(serving.url + path, token)
            refusal.value.close()
        code = serving.stop(within_s=10)

    found = commands.json("audit", "list", "--project", "refused", "--kind", "refusal")
    strangers = commands.json("audit", "strangers")
    assert code == 0
    assert [(e["outcome"], e["source"]) for e in found] == [("not_granted", "127.0.0.1")]
    # Of this minute, so they were not due before the stop.
    assert ("unknown_token", 1) in [(c["reason"], c["calls"]) for c in strangers["counts"]]


def test_a_taken_port_is_said_to_be_taken(commands):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"

        failed = commands("serve", "--listen", address, code=1)

    assert f"cannot listen on {address}" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_the_sample_says_how_to_use_it(commands):
    with commands.serving("--sample") as serving:
        path = commands.data_dir / "sample.json"
        note = json.loads(path.read_text())
        projects = get(f"{serving.url}/v3/projects?name=cn-north-4", note["token"])

    assert note["service"] == serving.url
    assert projects["projects"][0]["id"] == note["project_id"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert note["project_id"] != PROJECT


def test_the_sample_is_not_suspected_when_it_brings_back_what_was_deleted(commands):
    """Each start begins with the same images, whatever a walk has deleted before."""
    with commands.serving("--sample"):
        told = commands("audit", "list", "--project", "sample", "--json")

    changes = [e for e in json.loads(told.stdout) if e["action"] == "registry.set"]
    assert {e["details"].get("two_strikes") for e in changes} == {"off"}
    assert len({e["target"] for e in changes}) == 2


def scraped(url, token=None):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with urllib.request.urlopen(
        urllib.request.Request(f"{url}/metrics", headers=headers), timeout=10
    ) as answer:
        return set(answer.read().decode().splitlines())


def test_one_command_tells_what_its_workers_have_done(commands, add_registry, upstream):
    commands("project", "create", "told", "--id", "told")
    add_registry("swr", project="told", kind="SwrShared")
    with commands.serving() as serving:
        token = (commands.data_dir / "metrics.token").read_text().strip()
        # Otherwise the command would work itself.
        at_work = "wharfinger_workers 1.0"
        until(lambda: at_work in scraped(serving.url, token), within_s=30)
        before = scraped(serving.url, token)
        run = commands.json("sync", "--project", "told")["runs"][0]

        ended = 'wharfinger_runs_total{kind="SwrShared",outcome="complete"} 1.0'
        until(lambda: ended in scraped(serving.url, token), within_s=15)
        after = scraped(serving.url, token)

    assert run["requests"] > 0
    assert ended not in before
    assert at_work in after
    host = upstream.url.removeprefix("http://")
    assert any(
        line.startswith(f'wharfinger_upstream_requests_total{{host="{host}"') for line in after
    )


def test_a_worker_of_its_own_tells_on_a_port_of_its_own(commands):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    worker = subprocess.Popen(
        commands.line("worker", "--metrics-listen", address),
        env=commands.environment(),
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: answers(address), within_s=30)
        told = scraped(f"http://{address}")
    finally:
        worker.terminate()
        code = worker.wait(timeout=20)

    assert "wharfinger_database_up 1.0" in told
    assert code == 0


def answers(address):
    try:
        return bool(scraped(f"http://{address}"))
    except urllib.error.URLError:
        return False


def test_every_line_of_a_sync_names_the_call_and_the_run(commands, add_registry):
    request_id = uuid.uuid4().hex
    commands("project", "create", "lines", "--id", "lines")
    add_registry("swr", project="lines")
    with commands.serving(log_format="json", log_level="debug") as serving:
        token = commands.json("token", "create", "--project", "lines")["token"]
        request = urllib.request.Request(
            f"{serving.url}/v5/lines/image/synchronize",
            data=json.dumps({"image_type": "private_image"}).encode(),
            headers={
                "X-Auth-Token": token,
                "X-Request-Id": request_id,
                "Content-Type": "application/json",
            },
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            echoed = answer.headers["X-Request-Id"]
        until(lambda: "sync.run_finished" in serving.log.read_text(), within_s=20)
        lines = [json.loads(line) for line in serving.log.read_text().splitlines()]

    of_call = [line for line in lines if line.get("request_id") == request_id]
    (finished,) = [line for line in lines if line["event"] == "sync.run_finished"]
    assert echoed == request_id
    assert {line["event"] for line in of_call} >= {
        "http.answered",
        "sync.run_started",
        "sync.run_finished",
    }
    of_sync = [line for line in lines if line["event"].startswith(("sync.", "job."))]
    assert {(line["request_id"], line["run"], line["registry"]) for line in of_sync} == {
        (request_id, finished["run"], finished["registry"])
    }
