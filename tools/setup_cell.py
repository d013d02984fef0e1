# @title Set-up: on Colab this fetches the course, elsewhere it does nothing
import sys

if "google.colab" in sys.modules:
    import os
    import subprocess

    repository = "https://github.com/kdhht2334/Triplet_loss_for_image_retrieval"
    if not os.path.isdir("course"):
        subprocess.run(["git", "clone", "-q", "--depth=1", "--branch=main", repository, "course"], check=True)
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "faiss-cpu"], check=True)
    sys.path.insert(0, os.path.abspath("course"))
