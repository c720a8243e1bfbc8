"""Objects -> meshes, skeletons, pictures and pages to look at."""

from znn_dask.neurons.errors import NeuronError
from znn_dask.neurons.mesh import Meshes, mesh
from znn_dask.neurons.neuroglancer import neuroglancer_state
from znn_dask.neurons.picture import Picture, picture
from znn_dask.neurons.skeleton import Skeleton
from znn_dask.neurons.skeletonize import Skeletons, skeletonize
from znn_dask.neurons.triangles import Mesh
from znn_dask.neurons.view import View, view

__all__ = [
    "Mesh",
    "Meshes",
    "NeuronError",
    "Picture",
    "Skeleton",
    "Skeletons",
    "View",
    "mesh",
    "neuroglancer_state",
    "picture",
    "skeletonize",
    "view",
]
