# Rendered by python export/repository.py; the source is tritone/server/glue.py.
from tritone.server.glue import TritonPythonModel as TritonPythonModel
