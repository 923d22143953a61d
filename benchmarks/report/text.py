"""A report as text, and as a row of a Markdown table."""

from typing import Any, Dict, List, Optional, Sequence

from irvis.benchmarks.latency import jitter_ms, summarize
from irvis.benchmarks.markdown import table
from irvis.benchmarks.report.report import PAPER, PAPER_MEAN_MS, Report, heading
from irvis.runtime.sizes import format_size

COLUMNS = {name: name for name in ("mean", "std", "p50", "p90", "p95", "p99", "p999", "max")}
COLUMNS["p999"] = "p99.9"
WATERMARK, UNTRUSTED = "NOT VERIFIED", "NOT TO BE TRUSTED"


def to_text(report: Report) -> str:
    """Return the report with aligned columns."""
    run, total = report.run, report.total
    pace = "back to back" if run.rate_hz is None else f"at {run.rate_hz:g} Hz"
    lines = [heading(report.board, report.verified_mode)]
    if report.doubts:
        lines.append(f"{WATERMARK}: {'; '.join(report.doubts)}")
    fitted = f", fused at {format_size(report.model_size)}" if report.model_size else ""
    lines += [
        f"model    {report.model.file}" + (f", {report.model.precision.upper()}" if report.model.precision else ""),
        f"backend  {report.backend}" + (f", {report.threads} threads" if report.threads else ""),
        f"frames   {format_size(report.size)} (HEIGHTxWIDTH){fitted}, {total.count} timed after {report.warmup} of "
        f"warm-up, {pace}",
        f"cold     load {report.cold.load_ms:.0f} ms, first frame {report.cold.first_frame_ms:.1f} ms",
        "",
        f"{'ms':<8}" + "".join(f"{title:>10}" for title in COLUMNS.values()),
    ]
    summaries = dict(report.summaries)
    if run.rate_hz is not None:
        summaries["latency"] = summarize(run.latencies_ms)
    for stage, summary in summaries.items():
        figures = "  not measured"
        if summary is not None:
            figures = "".join(f"{getattr(summary, f'{column}_ms'):>10.3f}" for column in COLUMNS)
        lines.append(f"{stage:<8}{figures}")
    lines.append(f"fps     {total.fps:>10.2f}")
    if run.rate_hz is not None:
        lines.append(
            f"rate     latency is from a frame's arrival to its fused frame: {run.late} late, {run.dropped} dropped, "
            f"{total.count / run.seconds:.2f} fps delivered"
        )
    rests_on = summarize(run.latencies_ms).p999_frames
    lines += [
        f"p99.9 rests on {rests_on} of {total.count} frames; jitter {jitter_ms(run.latencies_ms):.3f} ms, the mean "
        "change from frame to frame",
        *_costs(report),
        "",
        _verdict(report),
        "",
        PAPER,
    ]
    if report.paper_ratio is None:
        lines.append(f"no ratio to it: {'; '.join(report.differences)}")
    else:
        lines.append(
            f"ratio: {report.paper_ratio:.2f} = {PAPER_MEAN_MS} / {total.mean_ms:.2f} ms, this one from frames to "
            "fused frame; the paper names neither its JetPack nor what its time spans"
        )
    return "\n".join(lines)


def _costs(report: Report) -> List[str]:
    """Return a line each for energy, error, quality and the time that the benchmark itself takes."""
    energy, accuracy, missing = report.energy, report.accuracy, report.not_measured
    lines = []
    if energy is None:
        lines.append(f"energy   not measured: {missing.get('energy', 'no meter')}")
    else:
        above = energy.mj_per_frame_above_idle
        idle = "idle not measured" if above is None else f"{above:.1f} above {energy.idle_w:.2f} W of idle"
        lines.append(
            f"energy   {energy.mj_per_frame:.1f} mJ a frame ({idle}), {energy.mean_w:.2f} W, "
            f"{_fixed(energy.fps_per_watt)} fps a watt; {energy.samples} samples at {energy.rate_hz:g} Hz "
            f"by {energy.meter}"
        )
    if report.model.built_error:
        lines.append(f"built    {_error(report.model.built_error)} from its ONNX, according to its sidecar")
    if accuracy is not None:
        if accuracy.error is not None:
            lines.append(f"error    {_error(accuracy.error)} from {accuracy.reference} in FP32")
        if accuracy.quality is not None:
            lines.append("quality  " + ", ".join(f"{name} {value:.4f}" for name, value in accuracy.quality.items()))
        lines.append(f"         of {accuracy.pairs} of {accuracy.of} pairs of {accuracy.data_set}")
    lines += [f"{name:<9}not measured: {missing[name]}" for name in ("error", "quality") if name in missing]
    if report.run.between_us is not None:
        lines.append(f"bench.py {report.run.between_us:.1f} µs between two frames")
    return lines


def _error(error: Dict[str, Any]) -> str:
    return f"{error['worst_psnr_db']:.1f} dB at the worst, {error['max_abs']:.4f} of 1 at most"


def _verdict(report: Report) -> str:
    stability = report.stability
    figures = f"varies by {stability.variation:.1%}, drifted by {stability.drift:+.1%}"
    return f"steady: {figures}" if stability.trusted else f"{UNTRUSTED}: {'; '.join(stability.reasons)}"


def _fixed(value: Optional[float], digits: int = 2) -> str:
    return "not measured" if value is None else f"{value:.{digits}f}"


def to_markdown(documents: Sequence[Dict[str, Any]]) -> str:
    """Return a table with one row per JSON report."""
    numbers = ["p50 ms", "p99 ms", "max ms", "fps", "mJ a frame", "error dB"]
    return table(["machine", "mode", "model", "frames", "remarks", *numbers], list(map(_row, documents)), left=5)


def _row(document: Dict[str, Any]) -> List[str]:
    board, model, latency, energy = (document[key] for key in ("board", "model", "latency", "energy"))
    error = (document["accuracy"] or {}).get("error") or model["built_error"]
    remarks = [f"{WATERMARK}: {'; '.join(document['watermark'])}"] if document["watermark"] else []
    remarks += [] if document["trusted"] else [f"{UNTRUSTED}: {'; '.join(document['stability']['reasons'])}"]
    pace = "" if document["rate_hz"] is None else f" at {document['rate_hz']:g} Hz"
    inner = document.get("model_size")
    fitted = f" by {inner['height']}x{inner['width']}" if inner else ""
    return [
        board["module"] or board["gpu"] or board["cpu"],
        document["verified_mode"] or "not verified",
        f"{model['file']}{', ' + model['precision'].upper() if model['precision'] else ''}; {document['backend']}",
        f"{latency['count']} of {document['size']['height']}x{document['size']['width']}{fitted}{pace}",
        ". ".join(remarks),
        *(f"{latency[f'{column}_ms']:.2f}" for column in ("p50", "p99", "max")),
        f"{document['delivered_fps']:.2f}",
        _fixed(energy["mj_per_frame"] if energy else None, 1),
        _fixed(error["worst_psnr_db"] if error else None, 1),
    ]
