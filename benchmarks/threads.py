"""How many threads the libraries of a benchmark may take."""

import cv2
import faiss
import torch


def use_one_thread() -> None:
    """Keeps OpenCV, FAISS and PyTorch in this process to one thread each."""
    cv2.setNumThreads(1)
    faiss.omp_set_num_threads(1)
    torch.set_num_threads(1)
