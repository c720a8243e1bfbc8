"""Objects -> meshes, skeletons, pictures and pages to look at."""

from znn_dask.neurons.errors import NeuronError
from znn_dask.neurons.mesh import Meshes, mesh
from znn_dask.neurons.triangles import Mesh
from znn_dask.neurons.view import View, view

__all__ = ["Mesh", "Meshes", "NeuronError", "View", "mesh", "view"]
