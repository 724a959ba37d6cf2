"""Files of other programs: read into a workspace, written from one. Nothing but the command line imports this room.

h_neurons_read         an H-neurons run (samples, answer tokens, ids, activations, coefficients) to workspace units
h_neurons_write        the same files from a workspace
h_neurons_formats      what such files hold, checked line by line
h_neurons_spans        where an answer stands when its tokens are known as strings only
h_neurons_activations  one file per item and location, checked one by one
"""
