"""How many threads the libraries of a benchmark may take."""

import os

import cv2
import faiss


def search_in_one_thread() -> None:
    """Keeps OpenCV and FAISS, in this process and those it starts, to one thread each."""
    # What follows holds for the calling thread alone; this for all of the processes to come.
    os.environ["OMP_NUM_THREADS"] = "1"
    cv2.setNumThreads(1)
    faiss.omp_set_num_threads(1)


def use_one_thread() -> None:
    """Keeps OpenCV, FAISS and PyTorch in this process to one thread each."""
    # Imported here, as it takes seconds, and a process that only searches needs none of it.
    import torch

    search_in_one_thread()
    torch.set_num_threads(1)
