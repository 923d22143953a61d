from irvis.benchmarks.accuracy import Accuracy
from irvis.benchmarks.latency import Run
from irvis.benchmarks.machine.energy import Energy
from irvis.benchmarks.report.text import to_markdown, to_text

ENERGY = Energy("INA3221 (GPU, CPU)", 20.0, 160, 8.0, 200, {"GPU": 8.0, "CPU": 5.0}, 9.0)
ERROR = {"max_abs": 0.01, "worst_psnr_db": 50.5, "mean_psnr_db": 55.0}


def test_what_costs_what_stands_beside_the_latency(make_report):
    accuracy = Accuracy("TNO/test", 25, 361, "student.onnx", ERROR, {"CC": 0.51234, "SSIM": 1.3})
    text = to_text(make_report(energy=ENERGY, accuracy=accuracy, not_measured={}))
    assert "NOT" not in text
    assert (
        "energy   520.0 mJ a frame (160.0 above 9.00 W of idle), 13.00 W, 1.92 fps a watt; 160 samples at 20 Hz" in text
    )
    assert "error    50.5 dB at the worst, 0.0100 of 1 at most from student.onnx in FP32" in text
    assert "quality  CC 0.5123, SSIM 1.3000" in text
    assert "of 25 of 361 pairs of TNO/test" in text
    assert "cold     load 800 ms, first frame 45.0 ms" in text
    assert "p99.9 rests on" in text
    assert "bench.py 10.0 µs between two frames" in text
    assert "steady: varies by 0.2%, drifted by +0.0%" in text


def test_what_was_not_measured_is_said_and_never_zero(make_report):
    text = to_text(make_report())
    for name, why in (("energy", "no meter"), ("error", "no --pairs"), ("quality", "no --pairs")):
        assert f"{name:<9}not measured: {why}" in text


def test_a_run_that_cannot_be_trusted_says_why(make_report):
    assert "NOT TO BE TRUSTED: 3 frames are too few" in to_text(make_report([30.0] * 3))


def test_a_watermark_goes_through_every_form(make_report, document):
    assert "NOT VERIFIED: power mode not verified" in to_text(make_report(verified_mode=None)).splitlines()[1]
    report = document(verified_mode=None)
    assert report["watermark"] == ["power mode not verified"]
    assert "NOT VERIFIED: power mode not verified" in to_markdown([report])


def test_with_a_rate_latencies_are_from_the_arrivals_and_late_frames_are_counted(make_report, document):
    run = make_report([30.0, 40.0] * 50).run
    waits_s = [0.001, 0.004] * 49 + [0.001, 0.010]
    arrivals_s = [start_s - wait_s for start_s, wait_s in zip(run.starts_s, waits_s)]
    paced = Run(run.latencies, run.starts_s, run.ends_s, 30.0, arrivals_s, 7)
    text = to_text(make_report(run=paced))
    assert "at 30 Hz" in text
    assert "50 late, 7 dropped, 28.56 fps delivered" in text  # 28.57 of the calls alone
    assert "p99.9 rests on 1 of 100 frames; jitter 13.061 ms" in text
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line}
    assert float(rows["latency"][1]) == 37.56
    assert float(rows["total"][1]) == 35.0
    row = to_markdown([document(run=paced)]).splitlines()[2]
    assert "| 100 of 480x640 at 30 Hz |" in row
    assert "| 37.50 | 44.06 | 50.00 | 28.56 |" in row


def test_a_table_has_a_row_a_report(document):
    lines = to_markdown([document(energy=ENERGY), document([20.0] * 100)]).splitlines()
    assert len(lines) == 4
    assert len({line.count("|") for line in lines}) == 1
    assert "| 520.0 |" in lines[2]
    assert "not measured" in lines[3]
    assert "| MAXN |" in lines[2]
    assert "| 120 of 480x640 |" in lines[2]
    assert "NOT TO BE TRUSTED: 3 frames are too few" in to_markdown([document([30.0] * 3)])


def test_the_error_of_a_row_is_the_one_measured_or_else_the_sidecars_at_the_worst_pair(make_report, document):
    built = {"pairs": 16, "max_abs": 0.003, "worst_psnr_db": 70.5, "mean_psnr_db": 75.0}
    model = make_report().model._replace(built_error=built)
    measured = Accuracy("TNO/test", 25, 25, "student.onnx", ERROR, None)
    both, alone = (document(model=model, accuracy=accuracy) for accuracy in (measured, None))
    assert [row.split(" | ")[-1] for row in to_markdown([both, alone]).splitlines()[2:]] == ["50.5 |", "70.5 |"]
    text = to_text(make_report(model=model))
    assert "built    70.5 dB at the worst, 0.0030 of 1 at most from its ONNX, according to its sidecar" in text
    assert "120 timed after 20 of warm-up, back to back" in text
