"""Reports on labels: which rows are doubtful, and one page that says how sure the labels are.

Imported only when asked for. `find_doubtful` needs nothing more than the library; `render_report`
needs the extra ``cli`` (jinja2, and Pillow where pictures are given). doubt.py ranks the rows,
content.py works out what is said, space.py draws the map, page.py and templates/ make the page.
"""

from pseudolabel.report.doubt import Doubt, find_doubtful
from pseudolabel.report.page import Table, render_report

__all__ = ["Doubt", "Table", "find_doubtful", "render_report"]
