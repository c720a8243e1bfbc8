"""How objects show themselves in notebooks: one module for each kind of object.

Only methods called `_repr_..._` reach up to this room, from anywhere below it, when a front end
asks for a display; nothing else in the package knows that it exists.
"""
