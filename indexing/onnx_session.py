"""ONNX graphs on one core."""

import onnxruntime


def cpu_session(graph: bytes) -> onnxruntime.InferenceSession:
    """Runs a graph in the thread that calls. Raises ValueError where it is none."""
    options = onnxruntime.SessionOptions()
    # Who embeds much does so in several threads or processes, as all else of a scan.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # Its errors have no base of their own.
        raise ValueError(f"Its graph cannot be run: {error}") from error
